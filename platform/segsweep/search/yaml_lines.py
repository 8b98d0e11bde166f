"""YAML with the line of every value, and every duplicate key reported.

ruamel.yaml reads YAML 1.2, so ``1e-4`` is a number. Values are built from the node graph instead of
by its loaders, because those stop at the first duplicate key and know the line of containers only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

KeyPath = tuple[str | int, ...]  # keys and list positions from the root

# An alias can repeat its own container, or double a list at every level: stop long before memory does.
_MAX_DEPTH = 20
_MAX_VALUES = 100_000


@dataclass(frozen=True, kw_only=True)
class YamlDocument:
    """A YAML file as plain values.

    Attributes:
        value: Dicts, lists and scalars; of equal keys the first wins.
        lines: Line (from 1) of every value by its path; of a key for the values of a mapping.
        problems: ``(line, message)`` of what YAML itself forbids.
    """

    value: Any = None
    lines: dict[KeyPath, int] = field(default_factory=dict)
    problems: tuple[tuple[int, str], ...] = ()

    def line(self, path: KeyPath) -> int:
        """Line of the value at ``path``, or of its nearest container that the file has."""
        known = [part for part in _prefixes(path) if part in self.lines]
        return self.lines[known[-1]] if known else 1


def _prefixes(path: KeyPath) -> list[KeyPath]:
    return [path[:length] for length in range(len(path) + 1)]


def parse_yaml(text: str) -> YamlDocument:
    """Read one YAML document; problems of syntax are returned, not raised."""
    try:
        root = YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        message = " ".join(str(part) for part in (error.context, error.problem) if part)
        return YamlDocument(problems=((mark.line + 1 if mark else 1, f"not YAML: {message}"),))
    except YAMLError as error:
        return YamlDocument(problems=((1, f"not YAML: {error}"),))
    if root is None:
        return YamlDocument(problems=((1, "the file is empty"),))
    reader = _Reader()
    try:
        value = reader.build(root, ())
    except _TooLarge as signal:
        limits = (
            f"more than {_MAX_DEPTH} levels or {_MAX_VALUES} values; look for an alias (*name) that repeats"
        )
        return YamlDocument(problems=((signal.line, limits),))
    return YamlDocument(value=value, lines=reader.lines, problems=tuple(reader.problems))


class _TooLarge(Exception):
    def __init__(self, line: int) -> None:
        super().__init__(line)
        self.line = line


class _Reader:
    def __init__(self) -> None:
        self.lines: dict[KeyPath, int] = {}
        self.problems: list[tuple[int, str]] = []
        self._scalars = YAML(typ="safe", pure=True).constructor

    def build(self, node: Node, path: KeyPath) -> Any:
        self.lines.setdefault(path, node.start_mark.line + 1)
        if len(path) > _MAX_DEPTH or len(self.lines) > _MAX_VALUES:
            raise _TooLarge(node.start_mark.line + 1)
        if isinstance(node, MappingNode):
            return self._mapping(node, path)
        if isinstance(node, SequenceNode):
            return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
        return self._scalar(node) if isinstance(node, ScalarNode) else None

    def _mapping(self, node: MappingNode, path: KeyPath) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            key = key_node.value
            if not isinstance(key, str):
                self.problems.append((line, "a key must be plain text"))
            elif key in values:
                first = self.lines[(*path, key)]
                self.problems.append((line, f"key {key!r} is already given in line {first}; keep one"))
            else:
                self.lines[(*path, key)] = line
                values[key] = self.build(value_node, (*path, key))
        return values

    def _scalar(self, node: ScalarNode) -> Any:
        try:
            return self._scalars.construct_object(node)
        except YAMLError as error:
            self.problems.append((node.start_mark.line + 1, f"cannot read {node.value!r}: {error}"))
            return None
