"""The front door shows what there is, and the errors keep the rules of the house."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pkcs11.exceptions
import pytest

import hsm
import hsm.errors
import softhsm
from hsm import HsmError, Recovery
from hsm.errors import RECOVERY, from_token, recovery_of

PACKAGE = Path(hsm.__file__).parent


@pytest.mark.parametrize("package", [hsm, softhsm])
def test_all_names_what_the_front_door_imports(package):
    tree = ast.parse(Path(package.__file__).read_text())
    imported = [
        alias.asname or alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    ]
    assert sorted(package.__all__) == sorted(imported)
    assert all(hasattr(package, name) for name in package.__all__)


@pytest.mark.parametrize("name", hsm.__all__)
def test_every_public_name_is_documented(name):
    thing = getattr(hsm, name)
    assert inspect.getdoc(thing)
    if inspect.isclass(thing):
        for member, value in vars(thing).items():
            if inspect.isfunction(value) and not member.startswith("_"):
                assert inspect.getdoc(value), f"{name}.{member}"


def test_docstring_mentions_every_file_there_is_to_open():
    mentioned = {word.strip("`.,;:") for word in hsm.__doc__.split()}
    opened = {"authority.py", "signer.py", "keys.py", "csr.py", "testing.py", "errors.py"}
    assert opened <= mentioned
    assert all((PACKAGE / name).is_file() for name in mentioned if name.endswith(".py"))


ERRORS = [thing for _, thing in inspect.getmembers(hsm.errors, inspect.isclass) if issubclass(thing, HsmError)]


@pytest.mark.parametrize("error", ERRORS)
def test_every_error_is_drawn_in_the_tree(error):
    assert error.__name__ in hsm.errors.__doc__
    assert error.__name__ in hsm.__all__


@pytest.mark.parametrize("error", ERRORS)
def test_every_error_has_a_code_and_a_next_move(error):
    made = error("a sentence", serial=b"\x01\x02", name="x\x1b[2J" * 100)
    assert "." in made.code
    assert made.operator.endswith(".")
    assert made.facts["serial"] == "0102"
    assert "\x1b" not in made.facts["name"]
    assert len(made.facts["name"]) < 1000
    assert isinstance(made.recovery, Recovery)


def test_every_answer_of_a_token_has_a_class_of_its_own():
    answers = [
        thing
        for _, thing in inspect.getmembers(pkcs11.exceptions, inspect.isclass)
        if issubclass(thing, pkcs11.exceptions.PKCS11Error)
    ]
    codes = {from_token(answer(), "testing").code for answer in answers}
    assert len(codes) == len(answers)
    assert all(RECOVERY.get(answer, Recovery.PERMANENT) is recovery_of(answer()) for answer in answers)


def test_module_that_was_finalised_is_to_be_loaded_again():
    """python-pkcs11 has no class for CKR_CRYPTOKI_NOT_INITIALIZED."""
    error = pkcs11.exceptions.PKCS11Error("CRYPTOKI_NOT_INITIALIZED. Should never see this.")
    assert recovery_of(error) is Recovery.RELOAD


def test_package_works_alone():
    """It imports neither the line nor the firmware, and SoftHSM only for tests."""
    code = "import sys, hsm; print(sorted(n for n in sys.modules if n.split('.')[0] in sys.argv[1:]))"
    told = subprocess.run(
        [sys.executable, "-c", code, "station", "firmware_tools", "softhsm"], check=True, capture_output=True, text=True
    ).stdout
    assert told.strip() == "[]"
