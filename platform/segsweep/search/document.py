"""What a user writes in a search space file, field by field. ``schema.json`` is generated from here."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Discriminator, Field, StrictBool, StrictInt, StrictStr, Tag

from segsweep.search.axes import Axis, ChoiceAxis, FloatAxis, IntAxis
from segsweep.search.expression import COST_NAMES, Expression

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Text = Annotated[str, Field(strict=True, min_length=1)]
Value = StrictBool | StrictInt | Number | StrictStr
AXIS_KINDS = ("choice", "int", "float")


class Written(BaseModel):
    """Base of everything read from the file: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class _AxisDocument(Written):
    when: dict[Text, Annotated[tuple[Value, ...], Field(min_length=1)]] = Field(
        default={},
        description="The axis exists only where each named axis (written above it) has a listed value.",
    )


class ChoiceDocument(_AxisDocument):
    """``{choice: [a, b, c]}``: one of the values."""

    choice: Annotated[tuple[Value, ...], Field(min_length=1, description="The values, all of one kind.")]

    def axis(self, name: str) -> Axis:
        """The axis of that name."""
        return ChoiceAxis(name=name, when=self.when, choices=self.choice)


class IntDocument(_AxisDocument):
    """``{int: [low, high]}``: whole numbers, both ends included."""

    bounds: tuple[StrictInt, StrictInt] = Field(alias="int", description="Smallest and largest value.")
    step: Annotated[StrictInt, Field(ge=1, description="Distance of neighbouring values.")] = 1
    log: Annotated[StrictBool, Field(description="Sample the logarithm evenly.")] = False

    def axis(self, name: str) -> Axis:
        """The axis of that name."""
        low, high = self.bounds
        return IntAxis(name=name, when=self.when, low=low, high=high, step=self.step, log=self.log)


class FloatDocument(_AxisDocument):
    """``{float: [low, high]}``: real numbers, both ends included."""

    bounds: tuple[Number, Number] = Field(alias="float", description="Smallest and largest value.")
    step: Annotated[Number, Field(gt=0, description="Distance of neighbouring values.")] | None = None
    log: Annotated[StrictBool, Field(description="Sample the logarithm evenly.")] = False

    def axis(self, name: str) -> Axis:
        """The axis of that name."""
        low, high = self.bounds
        return FloatAxis(name=name, when=self.when, low=low, high=high, step=self.step, log=self.log)


def _axis_kind(value: Any) -> str | None:
    return next((kind for kind in AXIS_KINDS if kind in value), None) if isinstance(value, dict) else None


AnyAxisDocument = ChoiceDocument | IntDocument | FloatDocument
AxisDocument = Annotated[
    Annotated[ChoiceDocument, Tag("choice")]
    | Annotated[IntDocument, Tag("int")]
    | Annotated[FloatDocument, Tag("float")],
    Discriminator(
        _axis_kind,
        custom_error_type="axis_kind",
        custom_error_message="an axis is one of {choice: [..]}, {int: [low, high]}, {float: [low, high]}",
    ),
]


class Constraint(Written):
    """A condition that every trained point meets.

    Attributes:
        name: Short name, shown as the reason of infeasible trials.
        require: Expression over axis names and ``cost.*``.
        why: Why it exists; shown to whoever meets it.
    """

    name: Text
    require: Text = Field(description="For example: cost.macs <= 60e9 and neck.top_level > neck.bottom_level")
    why: Text

    @cached_property
    def expression(self) -> Expression:
        """The parsed condition.

        Raises:
            ExpressionError: If ``require`` is outside the language.
        """
        return Expression(self.require)

    @property
    def on_cost(self) -> bool:
        """Whether it names a cost, and so can be decided only after counting."""
        return not self.expression.names.isdisjoint(COST_NAMES)


class Seed(Written):
    """A published point, asked before any other.

    Attributes:
        name: Name of the design in its source.
        source: Paper and table.
        published: Data set -> metric -> number as printed there (mIoU in [0, 1], params and macs as counts).
        point: A value for every active axis.
    """

    name: Text
    source: Text
    published: dict[Text, dict[Text, Number]] = {}
    point: dict[Text, Value]


class SpaceDocument(Written):
    """A search space file."""

    method: Text = Field(description="A method of segsweep, for example eseg.")
    source: Text = Field(description="Where the axes come from.")
    name: Text | None = Field(default=None, description="Name of the space; default: the name of the file.")
    axes: Annotated[dict[Text, AxisDocument], Field(min_length=1)]
    constraints: tuple[Constraint, ...] = ()
    seeds: tuple[Seed, ...] = ()
