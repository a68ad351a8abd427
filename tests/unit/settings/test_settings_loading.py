import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from collectord.errors import ConfigError
from collectord.settings import loading as config
from collectord.settings.loading import load_settings
from collectord.settings.schema import PREFIX, Settings
from tests.support.cases import for_each

Toml = Callable[[str], Path]

ROOT = '[[storage]]\nroot = "/a"\n'


pytestmark = pytest.mark.usefixtures("no_settings")


@pytest.fixture
def toml(tmp_path: Path) -> Toml:
    path = tmp_path / "collectord.toml"

    def write(text: str) -> Path:
        path.write_text(text, "utf-8")
        return path

    return write


@pytest.fixture
def env(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    return lambda key, value: monkeypatch.setenv(f"{PREFIX}{key}", value)


def error(path: Path | None) -> str:
    with pytest.raises(ConfigError) as raised:
        load_settings(path)
    return str(raised.value)


# ——— what there is ———


def test_the_defaults_of_the_design() -> None:
    settings = load_settings(None)
    assert settings.model_dump() == Settings().model_dump()
    submission = settings.submission
    assert submission.listen == ["tcp:8000:interface=127.0.0.1"]
    assert submission.max_body_bytes == 25 * 1024 * 1024
    assert (submission.patience_s, submission.idle_timeout_s, submission.keep_alive_s) == (40, 30, 130)
    assert submission.min_rate_bytes_s == 50
    assert submission.max_connections == 20000
    assert submission.dump_id_prefix == "bp-"
    assert submission.submitter_token == ""
    assert list(submission.annotation_aliases.items()) == [
        ("_productName", "ProductName"),
        ("_version", "Version"),
        ("prod", "ProductName"),
        ("ver", "Version"),
        ("product", "ProductName"),
        ("version", "Version"),
    ]
    assert submission.remove_annotations == [
        "Email",
        "TelemetryClientId",
        "TelemetryServerURL",
        "TelemetrySessionId",
    ]
    assert submission.memory_bytes == 64 * 1024 * 1024
    assert settings.throttle.rules == "accept_all"
    assert settings.throttle.products == []
    (store,) = settings.storage
    assert store.root == Path("crashes")
    assert store.min_free_bytes == 256 * 1024 * 1024
    assert (store.threads, store.timeout_s, store.sync) == (4, 10, "files")
    assert (store.directory_mode, store.file_mode) == (0o700, 0o600)
    assert (settings.logging.format, settings.logging.level) == ("text", "info")


def test_the_file_of_the_design(toml: Toml) -> None:
    settings = load_settings(
        toml(
            """
            [submission]
            listen = ["tcp:8000:interface=127.0.0.1", "unix:/run/x"]   # a comment
            max_body_bytes = 26214401
            patience_s = 0
            idle_timeout_s = 30.5
            keep_alive_s = 60.5
            min_rate_bytes_s = 1
            max_connections = 20001
            dump_id_prefix = ""
            submitter_token = "secret"
            annotation_aliases = { product = "ProductName" }
            remove_annotations = []

            [throttle]
            rules = "mozilla"
            products = ["Firefox", "Fenix"]

            [[storage]]
            root = "/var/lib/collectord/crashes"
            min_free_bytes = 0

            [[storage]]
            root = "/mnt/nfs/crashes"
            threads = 5
            timeout_s = 11
            sync = "filesystem"
            directory_mode = "0750"
            file_mode = "0640"

            [logging]
            format = "json"
            level = "debug"
            """
        )
    )
    assert settings.submission.listen == ["tcp:8000:interface=127.0.0.1", "unix:/run/x"]
    assert (settings.submission.max_body_bytes, settings.submission.idle_timeout_s) == (26214401, 30.5)
    assert (settings.submission.patience_s, settings.submission.keep_alive_s) == (0, 60.5)
    assert (settings.submission.min_rate_bytes_s, settings.submission.max_connections) == (1, 20001)
    assert (settings.submission.dump_id_prefix, settings.submission.submitter_token) == ("", "secret")
    assert settings.submission.annotation_aliases == {"product": "ProductName"}
    assert settings.submission.remove_annotations == []
    assert (settings.throttle.rules, settings.throttle.products) == ("mozilla", ["Firefox", "Fenix"])
    primary, second = settings.storage
    assert (primary.root, primary.min_free_bytes, primary.threads) == (Path("/var/lib/collectord/crashes"), 0, 4)
    assert (second.root, second.threads, second.timeout_s) == (Path("/mnt/nfs/crashes"), 5, 11)
    assert (second.sync, second.directory_mode, second.file_mode) == ("filesystem", 0o750, 0o640)
    assert (settings.logging.format, settings.logging.level) == ("json", "debug")


def test_an_empty_file(toml: Toml) -> None:
    assert load_settings(toml("")).model_dump() == Settings().model_dump()


def test_a_part_of_a_section_leaves_the_rest(toml: Toml) -> None:
    settings = load_settings(toml("[submission]\nmax_connections = 5\n"))
    assert settings.submission.max_connections == 5
    assert settings.submission.listen == Settings().submission.listen
    assert settings.storage == Settings().storage


def test_the_default_file(monkeypatch: pytest.MonkeyPatch, toml: Toml) -> None:
    assert config.DEFAULT_PATH.name == "none.toml"
    monkeypatch.setattr(config, "DEFAULT_PATH", toml("[submission]\nmax_connections = 5\n"))
    assert load_settings(None).submission.max_connections == 5
    other = config.DEFAULT_PATH.with_name("other.toml")
    other.write_text("")
    assert load_settings(other).submission.max_connections == 20000


def test_where_the_default_file_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert Path("/etc/collectord/collectord.toml") == config.DEFAULT_PATH


def test_settings_do_not_change() -> None:
    settings = load_settings(None)
    with pytest.raises(ValueError, match="frozen"):
        settings.submission.max_parts = 5


def test_the_token_is_not_shown(toml: Toml) -> None:
    settings = load_settings(toml('[submission]\nsubmitter_token = "hush-hush"\n'))
    assert "hush-hush" not in repr(settings)


# ——— the environment ———


def test_the_environment_over_the_file(toml: Toml, env: Callable[[str, str], None]) -> None:
    path = toml('[submission]\nmax_connections = 5\nmax_parts = 6\nlisten = ["tcp:1"]\n[throttle]\nrules = "mozilla"\n')
    env("SUBMISSION__MAX_CONNECTIONS", "7")
    env("SUBMISSION__LISTEN", '["tcp:2", "tcp:3"]')
    env("SUBMISSION__ANNOTATION_ALIASES", '{"a": "b"}')
    env("SUBMISSION__IDLE_TIMEOUT_S", "1.5")
    env("SUBMISSION__SUBMITTER_TOKEN", "12345")
    env("THROTTLE__PRODUCTS", '["Fenix"]')
    env("LOGGING__LEVEL", "error")
    settings = load_settings(path)
    assert settings.submission.max_connections == 7
    assert settings.submission.max_parts == 6
    assert settings.submission.listen == ["tcp:2", "tcp:3"]
    assert settings.submission.annotation_aliases == {"a": "b"}
    assert settings.submission.idle_timeout_s == 1.5
    assert settings.submission.submitter_token == "12345"
    assert (settings.throttle.rules, settings.throttle.products) == ("mozilla", ["Fenix"])
    assert settings.logging.level == "error"


def test_the_environment_without_a_file(env: Callable[[str, str], None]) -> None:
    env("SUBMISSION__MAX_PARTS", "7")
    settings = load_settings(None)
    assert settings.submission.max_parts == 7
    assert settings.submission.listen == Settings().submission.listen


def test_stores_of_the_environment_replace_those_of_the_file(toml: Toml, env: Callable[[str, str], None]) -> None:
    path = toml('[[storage]]\nroot = "/a"\n[[storage]]\nroot = "/b"\n[[storage]]\nroot = "/c"\n')
    for n in range(11):
        env(f"STORAGE__{n}__ROOT", f"/env{n}")
    env("STORAGE__1__THREADS", "9")
    env("STORAGE__1__DIRECTORY_MODE", "0770")
    env("STORAGE__1__FILE_MODE", "0660")
    stores = load_settings(path).storage
    assert [str(store.root) for store in stores] == [f"/env{n}" for n in range(11)]
    assert (stores[0].threads, stores[1].threads) == (4, 9)
    assert (stores[1].directory_mode, stores[1].file_mode) == (0o770, 0o660)


def test_stores_of_the_environment_as_json(env: Callable[[str, str], None]) -> None:
    env("STORAGE", json.dumps([{"root": "/a"}, {"root": "/b", "threads": 2}]))
    assert [(str(store.root), store.threads) for store in load_settings(None).storage] == [("/a", 4), ("/b", 2)]


def test_a_section_of_the_environment_as_json(env: Callable[[str, str], None]) -> None:
    env("THROTTLE", '{"rules": "mozilla", "products": ["Fenix"]}')
    assert load_settings(None).throttle.products == ["Fenix"]


def test_other_variables_are_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUBMISSION__MAX_PARTS", "x")
    monkeypatch.setenv("COLLECTORDX", "x")
    for variable in ("SERVICE_HOST", "SERVICE_PORT_HTTP", "PORT", "PORT_8000_TCP", "PORT_8000_TCP_ADDR"):
        monkeypatch.setenv(f"{PREFIX}{variable}", "tcp://10.0.0.1:8000")  # so Kubernetes tells of a service
    assert load_settings(None).model_dump() == Settings().model_dump()


# ——— what is wrong with a file ———


def test_a_missing_file(tmp_path: Path) -> None:
    assert error(tmp_path / "x.toml") == f"{tmp_path}/x.toml: No such file or directory"
    assert error(tmp_path) == f"{tmp_path}: Is a directory"


def test_bad_toml(toml: Toml) -> None:
    assert re.fullmatch(r"/\S+/collectord.toml: not TOML: .*line 2.*", error(toml("[submission]\nlisten = x\n")))


def test_bad_utf8(tmp_path: Path) -> None:
    path = tmp_path / "collectord.toml"
    path.write_bytes(b'[throttle]\nrules = "\xff"\n')
    assert error(path).startswith(f"{path}: not UTF-8 text: ")


@for_each(
    ("text", "reported"),
    [
        (
            "[submission]\nmax_body = 5\n",
            r"\[submission\] max_body: unknown key; did you mean max_body_bytes\?",
        ),
        (
            "[[storage]]\nroot = '/a'\nthread = 5\n",
            r"\[\[storage\]\] 0 thread: unknown key; did you mean threads\?",
        ),
        (
            "[submision]\nlisten = []\n",
            r"\[submision\]: unknown key; did you mean submission\?",
        ),
        ("loggin = 1\n", r"\[loggin\]: unknown key; did you mean logging\?"),
        ("[submission]\nmax_body_bytes = 'x'\n", r"\[submission\] max_body_bytes = 'x': .*valid integer.*"),
        ("[submission]\nmax_body_bytes = 1.5\n", r"\[submission\] max_body_bytes = 1.5: .*valid integer.*"),
        ("[submission]\nmax_body_bytes = 0\n", r"\[submission\] max_body_bytes = 0: .*greater than 0"),
        ("[submission]\nmax_parts = -1\n", r"\[submission\] max_parts = -1: .*greater than 0"),
        ("[submission]\nidle_timeout_s = 0\n", r"\[submission\] idle_timeout_s = 0: .*greater than 0"),
        ("[submission]\nkeep_alive_s = 0\n", r"\[submission\] keep_alive_s = 0: .*greater than 0"),
        ("[submission]\npatience_s = -1\n", r"\[submission\] patience_s = -1: .*greater than or equal to 0"),
        ("[submission]\npatience_s = nan\n", r"\[submission\] patience_s = nan: .*greater than or equal to 0"),
        (
            "[submission]\nmin_rate_bytes_s = -1\n",
            r"\[submission\] min_rate_bytes_s = -1: .*greater than or equal to 0",
        ),
        ("[submission]\nlisten = []\n", r"\[submission\] listen = \[\]: .*at least 1.*"),
        ("[submission]\nlisten = 'tcp:80'\n", r"\[submission\] listen = 'tcp:80': has to be a list, .*"),
        ("[submission]\nlisten = [80]\n", r"\[submission\] listen\.0 = 80: .*valid string"),
        ("[submission]\ndump_id_prefix = 'b/'\n", r"\[submission\] dump_id_prefix = 'b/': .*match pattern.*"),
        ("[submission]\nview_url = 'https://x/'\n", r"\[submission\] view_url = .*"),
        ("[submission]\nview_url = '/{crash_id}'\n", r"\[submission\] view_url = .*"),
        ("[submission]\nview_url = 'https://x/{crash_id} '\n", r"\[submission\] view_url = .*"),
        ("[submission]\nview_url = 'https://x/{id}/{crash_id}'\n", r"\[submission\] view_url = .*"),
        ("[submission]\nview_url = 'https://x/\"{crash_id}'\n", r"\[submission\] view_url = .*"),
        ("[submission]\nannotation_aliases = {a = 1}\n", r"\[submission\] annotation_aliases\.a = 1: .*valid string"),
        ("submission = 1\n", r"\[submission\] = …: .*"),
        ("[storage]\nroot = '/a'\n", r"\[storage\] = \{'root': '/a'\}: .* write \[\[storage\]\] in .*"),
        ("storage = []\n", r"\[storage\] = \[\]: .*at least 1.*"),
        ("[[storage]]\nthreads = 1\n", r"\[\[storage\]\] 0 root: is missing"),
        ("[[storage]]\nroot = '/a'\nthreads = 0\n", r"\[\[storage\]\] 0 threads = 0: .*greater than 0"),
        ("[[storage]]\nroot = '/a'\nsync = 'none'\n", r"\[\[storage\]\] 0 sync = 'none': .*'files' or 'filesystem'"),
        (
            "[[storage]]\nroot = '/a'\n[[storage]]\nroot = '/a/../a'\n",
            r"\[storage\]: two stores have the root /a",
        ),
        (
            "[[storage]]\nroot = 'a'\n[[storage]]\nroot = './a/'\n",
            r"\[storage\]: two stores have the root /.*/a",
        ),
        (
            "[[storage]]\nroot = '/a'\nlow_free_bytes = 1000\n",
            r"\[\[storage\]\] 0 = .*: .*low_free_bytes: has to be more than min_free_bytes \(268435456\).*",
        ),
        ("[[storage]]\nroot = '/a'\nkeep_bytes = 50\n", r"\[\[storage\]\] 0 keep_bytes = 50: .*number of bytes.*"),
        ("[[storage]]\nroot = '/a'\nkeep_days = -1\n", r"\[\[storage\]\] 0 keep_days = -1: .*greater than.*0"),
        (
            "[[storage]]\nroot = '/a'\ndirectory_mode = '0600'\n",
            r"\[\[storage\]\] 0 = .*: .*directory_mode: .*\"0700\"",
        ),
        (
            "[[storage]]\nroot = '/a'\ndirectory_mode = '0070'\n",
            r"\[\[storage\]\] 0 directory_mode = '0070': .*owner.*",
        ),
        (
            "[[storage]]\nroot = '/a'\nfile_mode = '0400'\n",
            r"\[\[storage\]\] 0 file_mode = '0400': .*the owner has to.*",
        ),
        ("[[storage]]\nroot = '/a'\nfile_mode = '0780'\n", r"\[\[storage\]\] 0 file_mode = '0780': .*"),
        ("[[storage]]\nroot = '/a'\nfile_mode = '10600'\n", r"\[\[storage\]\] 0 file_mode = '10600': .*"),
        ("[[storage]]\nroot = '/a'\nfile_mode = 'rw'\n", r"\[\[storage\]\] 0 file_mode = 'rw': .*"),
        ("[[storage]]\nroot = '/a'\nfile_mode = 600\n", r"\[\[storage\]\] 0 file_mode = 600: .*\"0600\".*"),
        ("[[storage]]\nroot = '/a'\nfile_mode = 0o600\n", r"\[\[storage\]\] 0 file_mode = 384: .*\"0600\".*"),
        ("[[storage]]\nroot = ''\n", r"\[\[storage\]\] 0 root = '': is empty: .*"),
        ("[[storage]]\nroot = '${STATE}/a'\n", r"\[\[storage\]\] 0 root = '\$\{STATE\}/a': has a placeholder .*"),
        ("[ledger]\ndirectory = ''\n", r"\[ledger\] directory = '': is empty: .*"),
        ("[logging]\nformat = 'xml'\n", r"\[logging\] format = 'xml': .*'text' or 'json'"),
        ("[logging]\nlevel = 'loud'\n", r"\[logging\] level = 'loud': .*'debug', 'info', 'warn' or 'error'"),
    ],
)
def test_errors_of_a_file(toml: Toml, text: str, reported: str) -> None:
    path = toml(text)
    assert re.fullmatch(re.escape(f"{path}: ") + reported, error(path), re.DOTALL)


def test_all_errors_are_told(toml: Toml) -> None:
    path = toml("[submission]\nmax_parts = 0\n[logging]\nlevel = 'loud'\nx = 1\n")
    assert [line.split(": ")[1].split(" = ")[0] for line in error(path).splitlines()] == [
        "[submission] max_parts",
        "[logging] level",
        "[logging] x",
    ]


def test_a_token_is_not_told(toml: Toml) -> None:
    said = error(toml("[submission]\nsubmitter_token = 12345\n"))
    assert "[submission] submitter_token = …: Input should be a valid string" in said
    assert "12345" not in said


# ——— what is wrong with the environment ———


@pytest.mark.parametrize(
    ("key", "value", "reported"),
    [
        ("SUBMISSION__MAX_PARTS", "x", r"environment, {key}: \[submission\] max_parts = 'x': .*valid integer.*"),
        (
            "SUBMISSION__MAX_PART",
            "1",
            r"environment, {key}: \[submission\] max_part: unknown .* max_parts\?",
        ),
        ("STORAGE__0__THREADS", "1", r"environment, COLLECTORD_STORAGE__0__ROOT: \[\[storage\]\] 0 root: is missing"),
        ("STORAGE__0__THREADS", "0", r".*\nenvironment, {key}: \[\[storage\]\] 0 threads = '0': .*greater than 0"),
        (
            "STORAGE__A__ROOT",
            "/a",
            r"environment, COLLECTORD_STORAGE: \[storage\] = \{{'a': .*\}}: .*STORAGE__0__… in the .*",
        ),
        ("STORAGE", '[{"root": "/a"}, {"root": "/a"}]', r"environment, {key}: \[storage\]: .*root /a"),
        ("LOGGING__LEVEL", "", r"environment, {key}: \[logging\] level = '': .*"),
        ("LOGGING", '{"level": "x"}', r"environment, {key}__LEVEL: \[logging\] level = 'x': .*"),
        ("SUBMISSION__LISTEN", "tcp:80", r"environment, {key}: not JSON: .*; a list looks like .*"),
        ("SUBMISSION", "x", r"environment, {key}: not JSON: .*"),
        ("STORAGE", "", r"environment, {key}: not JSON: .*"),
        (
            "CONFIG",
            "x",
            r"{key}: no such section, as in COLLECTORD_SUBMISSION__WORKERS; known .*logging.*",
        ),
        ("SUBMISION__MAX_PARTS", "1", r"{key}: no such section, .*; did you mean submission\?"),
        ("SUBMISSION_MAX_PARTS", "1", r"{key}: no such section, .*; did you mean submission\?"),
        ("", "1", r"{key}: no such section, .*; known here: .*"),
    ],
)
def test_errors_of_the_environment(
    toml: Toml, env: Callable[[str, str], None], key: str, value: str, reported: str
) -> None:
    env(key, value)
    said = error(toml("[throttle]\nrules = 'mozilla'\n"))
    assert re.fullmatch(reported.format(key=f"{PREFIX}{key}"), said, re.DOTALL), said


def test_the_file_is_blamed_for_what_is_its_own(toml: Toml, env: Callable[[str, str], None]) -> None:
    path = toml("[submission]\nmax_parts = 0\n")
    env("SUBMISSION__MAX_CONNECTIONS", "0")
    assert [line.split(": ")[0] for line in error(path).splitlines()] == [
        str(path),
        "environment, COLLECTORD_SUBMISSION__MAX_CONNECTIONS",
    ]


@for_each("path", sorted(Path(__file__).parents[3].glob("etc/*.toml")), ids=lambda path: path.name)
def test_the_files_that_are_shipped(path: Path) -> None:
    assert load_settings(path).storage


def test_credentials_of_systemd(toml: Toml, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "COLLECTORD_ADMIN__TOKEN").write_text("s3cret\n")
    (credentials / "COLLECTORD_SUBMISSION__SUBMITTER_TOKEN").write_text("t0ken\n")
    (credentials / "aws").write_text("[default]\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    monkeypatch.setenv("COLLECTORD_SUBMISSION__SUBMITTER_TOKEN", "of the environment")
    settings = load_settings(toml('[admin]\ntoken = "of the file"\nhosts = ["a"]\n'))
    assert (settings.admin.token, settings.admin.hosts) == ("s3cret", ["a"])
    assert settings.submission.submitter_token == "of the environment"
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "absent"))
    assert load_settings(toml('[admin]\ntoken = "of the file"\n')).admin.token == "of the file"


@pytest.mark.parametrize("name", ["DESTINATION", "PUBLISHER", "PUBLISHER__0"])
def test_no_password_of_a_table_that_is_none_is_shown(toml: Toml, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(f"COLLECTORD_CRASHMOVER__{name}", '{"url": "amqp://u:p4ss@h/"} ')
    assert "p4ss" not in error(toml(""))
    monkeypatch.setenv(f"COLLECTORD_CRASHMOVER__{name}", '"amqp://u:p4ss@h/"')
    assert "p4ss" not in error(toml(""))
