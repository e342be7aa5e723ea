"""Config to flags and back."""

import dataclasses

import pytest

from rnndyn.experiment import Config, setting, settings


def parse(toy, *argv):
    parser = settings.make_parser(toy.__doc__, "toy", toy.Config)
    return settings.given(toy.Config, parser.parse_args(argv))


def test_every_field_is_a_flag_of_its_type(toy):
    argv = "--seed 3 --precision float32 --cells gru,lstm --gain 2 --size 7 --no-centred".split()
    assert parse(toy, *argv) == {
        "seed": 3,
        "precision": "float32",
        "cells": ("gru", "lstm"),
        "gain": 2.0,
        "size": 7,
        "centred": False,
    }


def test_what_is_not_given_is_not_chosen(toy):
    assert parse(toy) == {}
    assert parse(toy, "--gain", "1.5") == {"gain": 1.5}


def test_defaults_of_cpu_accelerator_and_smoke(toy):
    def size(chosen=None, **where):
        return settings.resolve(toy.Config, chosen or {}, **where).size

    assert size(smoke=False, accelerator=False) == 4
    assert size(smoke=False, accelerator=True) == 64
    assert size(smoke=True, accelerator=True) == 2
    assert size({"size": 9}, smoke=True, accelerator=True) == 9


def test_precision_follows_the_device(toy):
    resolved = [
        settings.resolve(toy.Config, {}, smoke=False, accelerator=accelerator).precision
        for accelerator in (False, True)
    ]
    assert resolved == ["float64", "float32"]


def test_help_names_default_choices_and_question(toy, capsys):
    with pytest.raises(SystemExit) as ended:
        settings.make_parser(toy.__doc__, "toy", toy.Config).parse_args(["--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert ended.value.code == 0
    assert "Does the toy run?" in said
    assert "units (default 4, on an accelerator 64, with --smoke 2)" in said
    assert "which cells (default lstm,gru,vanilla; of lstm, gru, vanilla)" in said
    assert "100 % recurrent gain (default 1.5)" in said
    for field in dataclasses.fields(toy.Config):
        assert "--" + field.name in said


def test_a_record_gives_the_config_back(toy):
    config = toy.Config(cells=("gru",), gain=0.5)
    record = {k: list(v) if isinstance(v, tuple) else v for k, v in vars(config).items()}
    assert settings.from_record(toy.Config, record) == config


@pytest.mark.parametrize(
    "argv, said",
    [
        (
            ["--cells", "lstm,elman"],
            "toy: argument --cells: expected one of lstm, gru, vanilla, got elman; "
            "--help lists the flags.",
        ),
        (["--size", "two"], "toy: argument --size: expected a whole number, got 'two'; --help"),
        (["--size", "0"], "toy: argument --size: expected at least 1, got 0; --help"),
        (["--size", "101"], "toy: argument --size: expected at most 100; --help"),
        (["--gain", "nan"], "toy: argument --gain: expected at least 0, got nan; --help"),
        (["--sizes", "3"], "toy: unrecognized arguments: --sizes 3; --help lists the flags."),
        (["--precision", "half"], "expected one of float32, float64, got half; --help"),
    ],
)
def test_misuse_is_one_sentence(toy, refused, tmp_path, argv, said):
    assert said in refused(toy.main, [*argv, "--out", str(tmp_path)])
    assert toy.calls == []
    assert list(tmp_path.iterdir()) == []


def test_an_empty_tuple_has_no_type():
    with pytest.raises(ValueError, match=r"^`default`: expected a tuple with items, got \(\)"):
        setting((), "nothing")


def test_a_config_needs_no_fields_of_its_own():
    assert Config() == Config(seed=0, precision="float64")
