"""The Twisted plugin that makes C{twistd collectord} start the daemon."""

from twisted.application.service import ServiceMaker

collectord = ServiceMaker("collectord", "collectord.tap", "The crash-report collector.", "collectord")
