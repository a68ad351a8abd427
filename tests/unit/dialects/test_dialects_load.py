import pytest

from collectord.dialects.answers import Answers
from collectord.dialects.load import SUBMIT, builtin_dialects, load_dialects
from collectord.dialects.row import Dialect
from collectord.errors import ConfigError
from tests.support.cases import for_each
from tests.unit.dialects.rows import tables

KEYED = '[[row]]\nname = "some"\npath = "/a"\nkey = ["query:k"]\n'


def error(names: list[str], text: str = "") -> str:
    with pytest.raises(ConfigError) as raised:
        load_dialects(names, tables(text) if text else [])
    return str(raised.value)


def test_the_first_row_is_that_of_the_file() -> None:
    stopped = "Discarded=rule_{rule}\nStopSendingReportsFor={version}\n"
    expected = Dialect(name="submit", path="/submit", answer=Answers(stopped=stopped))
    assert load_dialects(["submit"], []) == [SUBMIT] == [expected]


@for_each("name", builtin_dialects())
def test_each_that_is_built_in_can_be_used(name: str) -> None:
    rows = load_dialects([name], [])
    assert {row.name for row in rows} == {name}


def test_rows_of_the_operator_come_first() -> None:
    rows = load_dialects(["submit"], tables('[[row]]\nname = "b"\npath = "/b"\n[[row]]\nname = "a"\npath = "/a"\n'))
    assert [row.name for row in rows] == ["b", "a", "submit"]


def test_a_table_without_a_path_changes_those_that_are_built_in() -> None:
    [row] = load_dialects(
        ["submit"], tables('[[row]]\nname = "submit"\nkey = ["query:k"]\nkeys = { secret = "App" }\n')
    )
    assert (row.path, row.keys) == ("/submit", {"secret": "App"})


def test_with_keys_no_path_is_taken_that_has_no_place_for_one() -> None:
    rows = load_dialects(["unreal"], tables('[[row]]\nname = "unreal"\nkeys = { secret = "Game" }\n'))
    assert [(row.path, row.keys) for row in rows] == [("/api/{project}/unreal/{key}", {"secret": "Game"})]
    with pytest.raises(ConfigError, match=r"dialect accelerator, row 1, .*: keys: key has to say where they are"):
        load_dialects(["accelerator"], tables('[[row]]\nname = "accelerator"\nkeys = { secret = "" }\n'))


def test_no_key_is_shown() -> None:
    [row] = load_dialects([], tables(KEYED + 'keys = { secret = "App" }\n'))
    assert "secret" not in repr(row)
    assert "secret" not in str(row)


@for_each(
    ("text", "said"),
    [
        ("", "[submission] dialects: 'none' is unknown; known are "),
        ('[[row]]\nname = "x"\n', "[[submission.dialect]] 0 'x': path is missing, and no built-in dialect "),
        ('[[row]]\npath = "/a"\n', "[[submission.dialect]] 0: name: is missing"),
        (
            '[[row]]\nname = "x"\npath = "/a"\nboddy = 1\n',
            "[[submission.dialect]] 0 'x': boddy: unknown key; did you mean body?",
        ),
        ('[[row]]\nname = "X Y"\npath = "/a"\n', "[[submission.dialect]] 0 'X Y': name: "),
        ('[[row]]\nname = "x"\npath = "a"\n', "[[submission.dialect]] 0 'x': path: has to begin with a slash"),
        ('[[row]]\nname = "x"\npath = "/a?b=c"\n', "[[submission.dialect]] 0 'x': path: has to begin with a slash"),
        (
            '[[row]]\nname = "x"\npath = "/{A}"\n',
            "[[submission.dialect]] 0 'x': path: a placeholder is {name} or {name*}",
        ),
        ('[[row]]\nname = "x"\npath = "/{a*}/b"\n', "[[submission.dialect]] 0 'x': path: {name*} has to be its end"),
        (
            '[[row]]\nname = "x"\npath = "/{a}/{a}"\n',
            "[[submission.dialect]] 0 'x': path: a placeholder is there twice",
        ),
        (
            '[[row]]\nname = "x"\npath = "/a"\nkey = ["body:k"]\n',
            "[[submission.dialect]] 0 'x': key.0: has to be \"query:name\"",
        ),
        ('[[row]]\nname = "x"\npath = "/a"\nkey = [1]\n', "[[submission.dialect]] 0 'x': key.0: has to be a text"),
        (
            '[[row]]\nname = "x"\npath = "/a"\nkey = ["path:k"]\n',
            "[[submission.dialect]] 0 'x': path:k: there is no {k} in path",
        ),
        (
            '[[row]]\nname = "x"\npath = "/a"\nannotations = { A = ["header:B"] }\n',
            "[[submission.dialect]] 0 'x': annotations.A.0: has to be \"field:name\"",
        ),
        ('[[row]]\nname = "x"\npath = "/{a}{b}"\n', "[[submission.dialect]] 0 'x': path: something has to be between"),
        (
            '[[row]]\nname = "x"\npath = "/a"\nkey = ["header:A:"]\n',
            "[[submission.dialect]] 0 'x': key.0: has to be \"query:",
        ),
        (
            '[[row]]\nname = "x"\npath = "/__x"\n',
            "[[submission.dialect]] 0 'x': path: begins as the paths of the daemon's",
        ),
        (
            '[[row]]\nname = "x"\npath = "/a"\nhost = "{b}.{b}.x"\n',
            "[[submission.dialect]] 0 'x': host: a placeholder is there twice",
        ),
        (
            '[[row]]\nname = "x"\npath = "/a"\nhost = "{b*}.x"\n',
            "[[submission.dialect]] 0 'x': host: {name*} has to be its end",
        ),
        ('[[row]]\nname = "x"\npath = "/a"\nkeys = { k = "" }\n', "[[submission.dialect]] 0 'x': keys: key has to say"),
        (KEYED + "keys = {}\n", "[[submission.dialect]] 0 'some': keys: has to be a table of keys and product names"),
        (KEYED + "keys = { secret = 1 }\n", "[[submission.dialect]] 0 'some': keys: has to be a table of texts"),
        (
            '[[row]]\nname = "x"\npath = "/a"\nanswer.kept = "{crashid}"\n',
            "[[submission.dialect]] 0 'x': answer.kept: {crashid} is unknown; known are {prefix}, {crash_id}",
        ),
        (
            '[[row]]\nname = "x"\npath = "/a"\nanswer.type = "a\\nb"\n',
            "[[submission.dialect]] 0 'x': answer.type: has to be",
        ),
        (
            '[[row]]\nname = "x"\npath = "/a"\nanswer.stop_s = -1\n',
            "[[submission.dialect]] 0 'x': answer.stop_s: Input should be greater than or equal to 0",
        ),
        (
            '[[row]]\nname = "x"\npath = "/a"\nno_dump = "drop"\n',
            "[[submission.dialect]] 0 'x': no_dump: Input should be",
        ),
    ],
)
def test_what_is_wrong_is_told(text: str, said: str) -> None:
    reported = error(["submit"] if text else ["none"], text)
    assert reported.startswith(said)
    assert "secret" not in reported


def test_a_change_that_is_wrong_is_told() -> None:
    said = error(["submit"], '[[row]]\nname = "submit"\nboddy = 1\n')
    assert said.startswith("dialect submit, row 1, as [[submission.dialect]] changes it: boddy: unknown key")


def test_without_any_row_nothing_could_be_received() -> None:
    assert "there is none" in error([])
