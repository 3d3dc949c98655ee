"""Files that cannot be used are told before anything is bound: one line that names the setting, exit 2."""

from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives import serialization

from oipserver.config import TlsConfig, load_config
from oipserver.tls import TlsError, certificates_of
from tests.tls.encrypted import Folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    folder = Folder(tmp_path_factory.mktemp("tls"))
    key = serialization.load_pem_private_key((folder.path / "tls.key").read_bytes(), None)
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    folder.put("locked.key", locked)
    folder.put("other.key", folder.issue("localhost").key)
    folder.put("noise", b"no PEM at all")
    return folder


WRONG: dict[str, tuple[dict[str, str], str]] = {
    "no such certificate": (
        {"cert_file": "{}/missing"},
        "tls.cert_file: cannot read '{}/missing': No such file or directory",
    ),
    "a directory for a key": ({"key_file": "{}"}, "tls.key_file: cannot read '{}': Is a directory"),
    "no certificate in it": (
        {"cert_file": "{}/noise"},
        "tls.cert_file: no PEM certificate in '{}/noise'",
    ),
    "no key in it": ({"key_file": "{}/noise"}, "tls.key_file: no PEM key in '{}/noise'"),
    "another certificate's key": (
        {"key_file": "{}/other.key"},
        "tls.key_file: '{}/other.key' is not the key of '{}/tls.crt'",
    ),
    "a key with a passphrase": (
        {"key_file": "{}/locked.key"},
        "tls.key_file: '{}/locked.key' is encrypted; expected a key without a passphrase",
    ),
    "no certificate of an authority": (
        {"client_ca_file": "{}/noise", "client_auth": "required"},
        "tls.client_ca_file: no PEM certificate in '{}/noise'",
    ),
    "no authority to check clients": (
        {"client_auth": "required"},
        "tls.client_ca_file: expected a file for tls.client_auth required, got nothing",
    ),
    "an authority for nobody": (
        {"client_ca_file": "{}/ca.crt"},
        "tls.client_auth: expected optional or required beside tls.client_ca_file, got none",
    ),
    "no key": ({"key_file": ""}, "tls.key_file: expected a file beside tls.cert_file, got nothing"),
    "no certificate": ({"cert_file": ""}, "tls.cert_file: expected a file beside tls.key_file, got nothing"),
}
GOOD = {"cert_file": "{}/tls.crt", "key_file": "{}/tls.key"}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_file_is_named(folder: Folder, wrong: str) -> None:
    changes, complaint = WRONG[wrong]
    values = {name: text.format(folder.path) for name, text in (GOOD | changes).items()}
    with pytest.raises(TlsError) as error:
        certificates_of(TlsConfig(**values))  # type: ignore[arg-type]
    assert str(error.value) == complaint.format(folder.path, folder.path)


def test_without_a_file_there_is_no_tls() -> None:
    assert certificates_of(TlsConfig()) is None


def test_a_process_ends_with_exit_2_and_one_line(folder: Folder) -> None:
    server = folder.server(f"--tls-key-file={folder.path}/other.key").start()
    assert server.wait() == 2
    complaints = [line for line in server.output.splitlines() if " INFO " not in line]
    paths = f"'{folder.path}/other.key' is not the key of '{folder.path}/tls.crt'"
    assert complaints == [f"oipserver: tls.key_file: {paths}"]


def test_paths_in_a_configuration_file_start_there(folder: Folder) -> None:
    models = [{"model_uri": "model.py", "runtime": "python"}]
    settings = {"tls": {"cert_file": "tls.crt", "key_file": "other.key"}, "models": models}
    config = folder.put("server.json", json.dumps(settings).encode())
    tls = load_config({"config": str(config)}, {}).tls
    assert (tls.cert_file, tls.key_file) == (f"{folder.path}/tls.crt", f"{folder.path}/other.key")
