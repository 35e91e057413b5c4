"""YAML read into the types that dataclasses declare: a text key takes the text that was written, or refuses it."""

from __future__ import annotations

import difflib
import json
import math
import re
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, Literal, NamedTuple, Union, cast, get_args, get_origin, get_type_hints

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

TAG = "tag:yaml.org,2002:"
INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*(_[0-9]+)*)")
DECIMAL = re.compile(r"[-+]?((0|[1-9][0-9]*(_[0-9]+)*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")
TRUE, FALSE = ("true", "yes", "on"), ("false", "no", "off")
"""YAML 1.1 reads these words as booleans, in any case."""
NULL = ("", "~", "null")
MOST_DIGITS = 300
MOST_NODES = 100_000
"""A file of aliases of aliases unfolds to more, and is refused."""
UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff\ud800-\udfff]")
"""What JSON writes as it is and YAML does not take, or folds."""


class Interpolation(str):
    """Text with a `${...}` in it, whose value is not known yet."""


@dataclass(frozen=True)
class Options:
    """Marks a dict whose keys are the options of a library: `Annotated[dict[str, Any], Options(kind_of)]`."""

    kind_of: Callable[[str, str], Any]
    """Type of an option, given its name and the full key; a `ValueError` where there is no such option."""


class Source(NamedTuple):
    """Where a value was written."""

    name: str
    """A file, or the whole override."""
    lines: bool
    """Whether it has more than one line."""

    def at(self, node: Node | None = None) -> str:
        """File and line of a node, or the override."""
        return f"{self.name}:{node.start_mark.line + 1}" if self.lines and node is not None else self.name


FastLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's parser, ten times as fast, where PyYAML was built with it."""


class Loader(FastLoader):  # type: ignore[misc]
    """YAML 1.1 without Python objects, dates and the word `=`."""

    yaml_implicit_resolvers = {  # noqa: RUF012  (as its parent has it)
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in (f"{TAG}timestamp", f"{TAG}value")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def compose(text: str, source: Source) -> Node | None:
    """Node of a YAML document, None of an empty one.

    Raises:
        ValueError: it is malformed, or nested too deeply; one line with the file or override.
    """
    loader = None
    try:
        loader = Loader(text)
        return cast(Node | None, loader.get_single_node())
    except (yaml.YAMLError, UnicodeEncodeError) as error:
        message = error.reason if isinstance(error, UnicodeEncodeError) else " ".join(str(error).split())
        raise ValueError(f"{source.name}: {message}") from None
    except RecursionError:
        raise ValueError(f"{source.name}: nested too deeply") from None
    finally:
        if loader is not None:
            loader.dispose()


class Reader:
    """Reads the nodes of one file or override."""

    def __init__(self, source: Source, *, resolved: bool = False) -> None:
        """Begin.

        Args:
            source: where the nodes were written.
            resolved: `${...}` in a text means itself.
        """
        self.source, self.resolved = source, resolved
        self.nodes = 0

    def read(self, node: Node, kind: Any, key: str) -> Any:
        """Value of a node as a plain tree: a dataclass becomes a dict of the keys that were written.

        Args:
            node: of YAML.
            kind: type that the key declares.
            key: dotted, for messages.

        Raises:
            ValueError: one line with file and line, key, what was written, and what is allowed.
        """
        self.nodes += 1
        if self.nodes > MOST_NODES:
            raise ValueError(f"{self.source.name}: holds more than {MOST_NODES:,} values")
        if isinstance(node, ScalarNode) and "${" in node.value and not self.resolved:
            return Interpolation(node.value)
        if not node.tag.startswith(TAG):
            raise ValueError(f"{self.source.at(node)}: {key}: the tag {node.tag} is not known")
        kind, options, members = taken_apart(kind)
        if isinstance(node, ScalarNode) and is_null(node):
            if type(None) in members or kind is Any:
                return None
            raise self.refusal(node, kind, key)
        if isinstance(node, MappingNode):
            return self.read_mapping(node, kind, members, options, key)
        if isinstance(node, SequenceNode):
            lists = [member for member in members if get_origin(member) is list or member is list]
            if not lists and Any not in members:
                raise self.refusal(node, kind, key)
            item = (get_args(lists[0]) or (Any,))[0] if lists else Any
            return [self.read(child, item, f"{key}[{index}]") for index, child in enumerate(node.value)]
        assert isinstance(node, ScalarNode)
        return self.read_scalar(node, kind, members, key)

    def read_mapping(self, node: MappingNode, kind: Any, members: tuple[Any, ...], options: Any, key: str) -> Any:
        """Dict of a mapping."""
        owner = next((member for member in members if is_dataclass(member)), None)
        listed = next((get_args(member)[0] for member in members if get_origin(member) is list), None)
        if owner is None and listed is not None and is_dataclass(listed):
            return [self.read(node, listed, f"{key}[0]")]  # a list takes one of its values
        dicts = [member for member in members if get_origin(member) is dict or member is dict]
        if owner is None and not dicts and Any not in members:
            raise self.refusal(node, kind, key)
        if self.refuse_repeated(node, key):
            Loader("").flatten_mapping(node)  # what `<<` merges; the mapping's own keys come last and win
        values: dict[str, Any] = {}
        for name_node, child in node.value:
            name = self.name_of(name_node, key)
            full = f"{key}.{name}" if key else name
            if owner is not None:
                inner = field_kind(owner, name, full, self.source.at(name_node))
            elif options is not None:
                inner = self.option_kind(options, name, full, name_node)
            else:
                inner = (get_args(dicts[0]) or (str, Any))[1] if dicts else Any
            values[name] = self.read(child, inner, full)
        return values

    def option_kind(self, options: Options, name: str, full: str, node: Node) -> Any:
        """Type of a library's option."""
        try:
            return options.kind_of(name, full)
        except ValueError as error:
            raise ValueError(f"{self.source.at(node)}: {error}") from None

    def name_of(self, node: Node, key: str) -> str:
        """Key of a mapping as it was written."""
        if not isinstance(node, ScalarNode) or is_null(node):
            raise ValueError(f"{self.source.at(node)}: {key or 'the file'} has a key that is no text")
        return str(node.value)

    def refuse_repeated(self, node: MappingNode, key: str) -> bool:
        """Refuse a key that is written twice, and tell whether other mappings are merged into this one."""
        seen, merges = set(), False
        for name_node, _ in node.value:
            if name_node.tag == f"{TAG}merge":
                merges = True
                continue
            name = self.name_of(name_node, key)
            if name in seen:
                full = f"{key}.{name}" if key else name
                raise ValueError(f"{self.source.at(name_node)}: found duplicate key {full}")
            seen.add(name)
        return merges

    def read_scalar(self, node: ScalarNode, kind: Any, members: tuple[Any, ...], key: str) -> Any:
        """Value of a text, number or word."""
        text = str(node.value)
        lists = [member for member in members if get_origin(member) is list or member is list]
        if lists and not any(member in members for member in (str, int, float, bool, Any)):
            return [self.read(node, (get_args(lists[0]) or (Any,))[0], f"{key}[0]")]  # a list takes one of its values
        if Any in members:
            return self.read_untyped(node, key)
        as_text = bool(node.style) and str in members
        choices = [choice for member in members if get_origin(member) is Literal for choice in get_args(member)]
        if (bool in members or True in choices) and text.lower() in TRUE + FALSE and not as_text:
            return text.lower() in TRUE
        numbers = [choice for choice in choices if not isinstance(choice, str) and str(choice) == text]
        if numbers and not node.style:
            return numbers[0]
        if text in choices:
            return text
        if int in members and INTEGER.fullmatch(text) and len(text) <= MOST_DIGITS and not as_text:
            return int(text)
        if float in members and DECIMAL.fullmatch(text) and math.isfinite(float(text)) and not as_text:
            return float(text)
        if str in members:
            return self.read_text(node, key)
        raise self.refusal(node, kind, key)

    def read_text(self, node: ScalarNode, key: str) -> str:
        """Text as it was written, unless it is a word that YAML reads as a boolean."""
        text = str(node.value)
        if not node.style and node.tag == f"{TAG}bool":
            raise ValueError(
                f"{self.source.at(node)}: {key} takes a text, and YAML reads {text} as a boolean: write it in quotes, "
                f"{key}='\"{text}\"' on a command line"
            )
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            raise ValueError(f"{self.source.at(node)}: {key} holds half of a surrogate pair, which no file can hold")
        return text

    def read_untyped(self, node: ScalarNode, key: str) -> Any:
        """Value of an option whose type is not known; what YAML's versions read differently is refused."""
        text = str(node.value)
        if node.style:
            return self.read_text(node, key)
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
        if "_" not in text and INTEGER.fullmatch(text) and len(text) <= MOST_DIGITS:
            return int(text)
        if "_" not in text and DECIMAL.fullmatch(text) and math.isfinite(float(text)):
            return float(text)
        if node.tag == f"{TAG}str":
            return self.read_text(node, key)
        raise ValueError(
            f"{self.source.at(node)}: {key}={text} may be a text or another value: put the text in quotes, or write a "
            "decimal number, true or false"
        )

    def refusal(self, node: Node, kind: Any, key: str) -> ValueError:
        """Error of a value that a key does not take."""
        written = shown(node)
        allowed = named(kind)
        if get_origin(kind) is Literal:
            near = suggest(str(node.value), [str(value) for value in get_args(kind)])
            expected = f"Invalid value '{written}', expected one of {allowed}.{near}"
            return ValueError(f"{self.source.at(node)}: {key}: {expected}")
        return ValueError(f"{self.source.at(node)}: {key or 'a config'} takes {allowed}, got {written}")


def is_null(node: ScalarNode) -> bool:
    """Tell whether a scalar is null: an unquoted `null`, `~` or nothing."""
    return not node.style and node.tag == f"{TAG}null" and node.value.lower() in NULL


def taken_apart(kind: Any) -> tuple[Any, Options | None, tuple[Any, ...]]:
    """A type without its annotation, the options that the annotation names, and the members of a union."""
    options = None
    if get_origin(kind) is Annotated:
        kind, *marks = get_args(kind)
        options = next((mark for mark in marks if isinstance(mark, Options)), None)
    members = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    return kind, options, members


def field_kind(owner: Any, name: str, full: str, source: str) -> Any:
    """Type of a dataclass' field.

    Raises:
        ValueError: it has none of that name; the nearest is named.
    """
    hints = hints_of(owner)
    if name not in hints:
        raise ValueError(f"{source}: Key '{name}' not in '{owner.__name__}'.{suggest(name, hints)} Full key: {full}")
    return hints[name]


@cache
def hints_of(owner: Any) -> dict[str, Any]:
    """Type of each field of a dataclass."""
    hints = get_type_hints(owner, include_extras=True)
    return {entry.name: hints[entry.name] for entry in fields(owner)}


def suggest(word: str, known: Iterable[str]) -> str:
    """Hint " Did you mean ...?" where a known word is near, else nothing."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f" Did you mean '{near[0]}'?" if near else ""


def named(kind: Any) -> str:
    """A type as it is told to a user."""
    kind, _, members = taken_apart(kind)
    names = {str: "a text", int: "a whole number", float: "a number", bool: "true or false", type(None): "null"}
    texts: list[str] = []
    for member in members:
        if get_origin(member) is Literal:
            text = ", ".join(map(str, get_args(member)))
        elif get_origin(member) is list or member is list:
            text = f"a list (of {named(get_args(member)[0])})" if get_args(member) else "a list"
        elif get_origin(member) is dict or member is dict or is_dataclass(member):
            text = "a mapping"
        else:
            text = names.get(member, "")
        if text and text not in texts:
            texts.append(text)
    return " or ".join(texts) or "a value"


def shown(node: Node) -> str:
    """What was written, shortened."""
    if isinstance(node, MappingNode):
        return "a mapping"
    if isinstance(node, SequenceNode):
        return "a list"
    assert isinstance(node, ScalarNode)
    text = " ".join(str(node.value).split())
    short = text if len(text) <= 60 else f"{text[:57]}..."
    return repr(short) if node.style or not short else short


def quoted(value: Any) -> str:
    """A value as YAML of one line that reads back equal, whatever type its key has.

    Raises:
        ValueError: it is no text, number, boolean, null, nor a list or dict of such.
    """
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} is no number that a config takes")
        return repr(float(value))
    if isinstance(value, str):
        text = json.dumps(value, ensure_ascii=False)
        return UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{quoted(str(key))}: {quoted(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(quoted, value)) + "]"
    raise ValueError(f"{value!r} is no text, number, boolean, null, list or dict")


def is_plain(text: str) -> bool:
    """Tell whether a text means itself without quotes, whatever type its key has."""
    return re.fullmatch(r"[A-Za-z][A-Za-z0-9_./~-]*", text) is not None and text.lower() not in (*TRUE, *FALSE, *NULL)


def node_of(value: Any) -> Node:
    """Node of a value that is known already, so that it is checked like one that was written.

    Raises:
        ValueError: as `quoted`.
    """
    return cast(Node, Loader(quoted(value)).get_single_node())


def scalar(text: str) -> ScalarNode:
    """Node of a text without quotes, all of it, whatever YAML makes of `#` and brackets."""
    loader = Loader("")
    return ScalarNode(loader.resolve(ScalarNode, text, (True, False)), text)
