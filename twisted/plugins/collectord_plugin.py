"""Makes C{twistd collectord} known."""

from twisted.application.service import ServiceMaker

collectord = ServiceMaker("collectord", "collectord.tap", "The crash-report collector.", "collectord")
