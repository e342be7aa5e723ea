"""A script's settings: a frozen dataclass whose every field is a flag on the command line."""

import argparse
import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

from rnndyn.core import validation

_UNSET = dataclasses.MISSING


def setting(
    default: Any,
    help: str,
    *,
    smoke: Any = _UNSET,
    accelerator: Any = _UNSET,
    choices: Iterable[Any] | None = None,
    minimum: float | None = None,
) -> Any:
    """A field of a `Config`: its default, what it means, and what it may be.

    Parameters
    ----------
    default : int, float, bool, str or a tuple of these
        Also fixes the type of the flag; a tuple is written as a comma list, and so must not be
        empty.
    help : str
        One line for `--help`.
    smoke : optional
        The default under `--smoke`.
    accelerator : optional
        The default where JAX's default backend is not the CPU.
    choices : iterable, optional
        The values that are valid; of a tuple, the values its items may have.
    minimum : float, optional
        The smallest value that is valid; of a tuple, the smallest its items may have.

    Examples
    --------
    >>> import dataclasses
    >>> from rnndyn import experiment
    >>> @dataclasses.dataclass(frozen=True, kw_only=True)
    ... class Config(experiment.Config):
    ...     gains: tuple[float, ...] = experiment.setting((0.5, 2.0), "recurrent gains")
    >>> Config().gains
    (0.5, 2.0)
    """
    if isinstance(default, tuple) and not default:
        raise ValueError(
            validation.sentence(
                "default", "a tuple with items", "()", "its items tell the flag's type"
            )
        )
    metadata = {
        "help": help,
        "smoke": smoke,
        "accelerator": accelerator,
        "choices": None if choices is None else tuple(choices),
        "minimum": minimum,
    }
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The settings that every script has; subclass it with `kw_only=True`.

    A subclass gives each field a default with `setting`. What must hold between fields belongs
    into its `__post_init__`, as a ValueError: on the command line that becomes one sentence.
    """

    seed: int = setting(0, "seed of every random draw", minimum=0)
    precision: str = setting(
        "float64",
        "floating-point precision",
        accelerator="float32",
        choices=("float32", "float64"),
    )


class Parser(argparse.ArgumentParser):
    """Misuse gives one sentence and exit code 2, without the usage text before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message.rstrip('.')}; --help lists the flags.\n")


def make_parser(doc: str, prog: str, config_class: type[Config]) -> Parser:
    """The parser of a script: a flag for every field, and the four that are not settings."""
    parser = Parser(
        prog=prog,
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_setting_flags(parser, config_class)
    add_run_flags(parser)
    return parser


def add_setting_flags(parser: argparse.ArgumentParser, config_class: type[Config]) -> None:
    """A flag for every field; one that is not given leaves no trace in the namespace."""
    group = parser.add_argument_group("settings")
    for field in dataclasses.fields(config_class):
        _add_flag(group, field)


def add_run_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that say how to run, the same for every script."""
    parser.add_argument("--out", metavar="FOLDER", help="where the figure goes (default figures)")
    parser.add_argument(
        "--replot", action="store_true", help="draw the stored numbers again, compute nothing"
    )
    parser.add_argument(
        "--smoke",
        action="store_true",
        help="smallest sizes, to see that it runs; goes to figures/smoke unless --out is given",
    )


def given(config_class: type[Config], options: argparse.Namespace) -> dict[str, Any]:
    """The settings that were given on the command line, by field name."""
    names = [field.name for field in dataclasses.fields(config_class)]
    return {name: getattr(options, name) for name in names if hasattr(options, name)}


def resolve(
    config_class: type[Config], chosen: dict[str, Any], *, smoke: bool, accelerator: bool
) -> Config:
    """The Config: what was chosen, else the default for a smoke run, an accelerator or a CPU."""
    values = {}
    for field in dataclasses.fields(config_class):
        values[field.name] = _default(field, smoke=smoke, accelerator=accelerator)
    return config_class(**values | chosen)


def from_record(config_class: type[Config], record: dict[str, Any]) -> Config:
    """The Config that a JSON record holds; lists become tuples again."""
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in record.items()}
    return config_class(**values)


def _default(field: dataclasses.Field, *, smoke: bool, accelerator: bool) -> Any:
    if smoke and field.metadata.get("smoke", _UNSET) is not _UNSET:
        return field.metadata["smoke"]
    if accelerator and field.metadata.get("accelerator", _UNSET) is not _UNSET:
        return field.metadata["accelerator"]
    return field.default


def _add_flag(group: Any, field: dataclasses.Field) -> None:
    flag = "--" + field.name.replace("_", "-")
    options: dict[str, Any] = {
        "default": argparse.SUPPRESS,
        "dest": field.name,
        "help": _help(field),
    }
    if isinstance(field.default, bool):
        group.add_argument(flag, action=argparse.BooleanOptionalAction, **options)
        return
    convert = _converter(field)
    group.add_argument(flag, type=convert, metavar=_metavar(field.default), **options)


def _help(field: dataclasses.Field) -> str:
    text = f"{field.metadata.get('help', '')} (default {_text(field.default)}"
    for when, place in (("accelerator", "on an accelerator"), ("smoke", "with --smoke")):
        value = field.metadata.get(when, _UNSET)
        if value is not _UNSET:
            text += f", {place} {_text(value)}"
    choices = field.metadata.get("choices")
    if choices:
        text += f"; of {', '.join(map(str, choices))}"
    return (text + ")").replace("%", "%%")


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _metavar(default: Any) -> str:
    kinds = {int: "N", float: "X", str: "NAME"}
    if isinstance(default, tuple):
        kind = kinds[type(default[0])]
        return f"{kind},{kind},..."
    return kinds[type(default)]


def _converter(field: dataclasses.Field) -> Callable[[str], Any]:
    """Text to value, for argparse: an ArgumentTypeError carries the sentence."""
    default = field.default
    item_type = type(default[0]) if isinstance(default, tuple) else type(default)

    def convert(text: str) -> Any:
        items = text.split(",") if isinstance(default, tuple) else [text]
        values = tuple(_item(item.strip(), item_type) for item in items)
        _check_items(field, values)
        return values if isinstance(default, tuple) else values[0]

    return convert


def _item(text: str, kind: type) -> Any:
    try:
        return kind(text)
    except ValueError:
        wanted = {int: "a whole number", float: "a number"}[kind]
        raise argparse.ArgumentTypeError(f"expected {wanted}, got {text!r}") from None


def _check_items(field: dataclasses.Field, values: Sequence[Any]) -> None:
    choices, minimum = field.metadata.get("choices"), field.metadata.get("minimum")
    for value in values:
        if choices is not None and value not in choices:
            listed = ", ".join(map(str, choices))
            raise argparse.ArgumentTypeError(f"expected one of {listed}, got {value}")
        if minimum is not None and not value >= minimum:
            raise argparse.ArgumentTypeError(f"expected at least {minimum:g}, got {value}")
