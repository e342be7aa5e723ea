"""The toy script, fresh for each test."""

import pytest

from tests.experiment import toy as script


@pytest.fixture
def toy():
    script.calls.clear()
    script.failures.clear()
    return script


@pytest.fixture
def refused(capsys):
    """What a command line that is misuse says; it must end with exit code 2 and one line."""

    def sentence(main, argv) -> str:
        with pytest.raises(SystemExit) as ended:
            main(argv)
        assert ended.value.code == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        return said.strip()

    return sentence
