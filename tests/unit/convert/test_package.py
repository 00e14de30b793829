from __future__ import annotations

import json
import shutil
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from frameworks.convert import package
from frameworks.convert.package import CONTENTS, InvalidPackage
from frameworks.convert.staging import PathTaken, staged

FILES = {
    "status.yaml": b"model_name: mlp\n",
    "onnx/model.onnx": b"graph" * 1000,
    "onnx/config.yaml": b"model_name: mlp\n",
    "model_input/conversion/0.npz": b"inputs",
    "model_output/conversion/0.npz": b"outputs",
    "tf-savedmodel/model.savedmodel/variables/variables.index": b"",
}
LEFT_OUT = {"navigator.log": b"log", ".source/mlp/1/model.pt": b"pickle", ".lock": b""}


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    folder = tmp_path / "made" / "mlp.nav.workspace"
    for name, content in {**FILES, **LEFT_OUT}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def saved(workspace: Path, tmp_path: Path) -> Path:
    path = tmp_path / "mlp.nav"
    package.write(workspace, path, model_name="mlp")
    return path


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".work" not in path.relative_to(folder).parts
    }


def rewrite(path: Path, change: Callable[[dict[str, bytes], dict[str, Any]], None]) -> None:
    """Write the package again with other members or another list of them."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    document = json.loads(members.pop(CONTENTS))
    change(members, document)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        archive.writestr(CONTENTS, json.dumps(document))


def listed(content: bytes, document: dict[str, Any], name: str) -> None:
    """List a member as an honest maker would."""
    import hashlib

    document["members"][name] = {
        "sha256": f"sha256:{hashlib.sha256(content).hexdigest()}",
        "bytes": len(content),
    }


def refused(path: Path, tmp_path: Path, pattern: str) -> None:
    workdir = tmp_path / "unpacked"
    workdir.mkdir()
    before = tree(tmp_path)
    with pytest.raises(InvalidPackage, match=pattern):
        package.unpack(path, workdir)
    assert tree(tmp_path) == before
    assert [entry.name for entry in workdir.iterdir() if entry.name != ".work"] == []
    assert not list(workdir.glob(".work/*"))


def test_a_package_comes_back_as_it_was_without_source_and_log(saved: Path, tmp_path: Path) -> None:
    folder = package.unpack(saved, tmp_path / "unpacked")
    assert folder == tmp_path / "unpacked" / "mlp.nav.workspace"
    assert tree(folder) == FILES


def test_without_data_samples_and_answers_stay_behind(workspace: Path, tmp_path: Path) -> None:
    path = tmp_path / "small.nav"
    package.write(workspace, path, model_name="mlp", save_data=False)
    kept = tree(package.unpack(path, tmp_path / "unpacked"))
    assert kept == {name: content for name, content in FILES.items() if not name.startswith("model_")}


def test_equal_workspaces_make_equal_packages(workspace: Path, saved: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.nav"
    package.write(workspace, again, model_name="mlp")
    assert again.read_bytes() == saved.read_bytes()


def test_a_file_that_exists_is_replaced_only_when_asked(workspace: Path, saved: Path) -> None:
    before = saved.read_bytes()
    with pytest.raises(PathTaken, match="override=True"):
        package.write(workspace, saved, model_name="mlp")
    assert saved.read_bytes() == before
    (workspace / "onnx" / "model.onnx").write_bytes(b"other")
    package.write(workspace, saved, model_name="mlp", override=True)
    assert saved.read_bytes() != before


def test_a_failed_write_leaves_nothing(workspace: Path, tmp_path: Path) -> None:
    (workspace / "onnx" / "link").symlink_to("model.onnx")
    target = tmp_path / "packages" / "mlp.nav"
    with pytest.raises(Exception, match="neither a file nor a folder"):
        package.write(workspace, target, model_name="mlp")
    assert list(target.parent.iterdir()) == []


def test_a_workspace_that_exists_is_replaced_only_when_asked(saved: Path, tmp_path: Path) -> None:
    folder = package.unpack(saved, tmp_path / "unpacked")
    (folder / "mine").write_text("kept")
    with pytest.raises(PathTaken, match="override_workdir=True"):
        package.unpack(saved, tmp_path / "unpacked")
    assert (folder / "mine").exists()
    package.unpack(saved, tmp_path / "unpacked", override=True)
    assert tree(folder) == FILES


def test_the_workspace_that_a_package_was_made_of_is_taken_as_it_is(workspace: Path, tmp_path: Path) -> None:
    home = workspace.rename(tmp_path / "mlp.nav.workspace")
    before = tree(home)
    package.write(home, tmp_path / "mlp.nav", model_name="mlp")
    assert package.unpack(tmp_path / "mlp.nav", tmp_path) == home
    assert tree(home) == before


@pytest.mark.parametrize("change", ["changed", "missing", "odd"])
def test_a_workspace_that_differs_from_a_package_is_not_taken_for_it(
    change: str, saved: Path, tmp_path: Path
) -> None:
    folder = package.unpack(saved, tmp_path / "unpacked")
    match change:
        case "changed":
            (folder / "status.yaml").write_text("other")
        case "missing":
            (folder / "status.yaml").unlink()
        case _:
            (folder / "link").symlink_to("status.yaml")
    with pytest.raises(PathTaken, match="override_workdir=True"):
        package.unpack(saved, tmp_path / "unpacked")


def test_a_block_that_fails_leaves_the_old_workspace(tmp_path: Path) -> None:
    target = tmp_path / "mlp.nav.workspace"
    target.mkdir()
    (target / "old").touch()
    with pytest.raises(FileExistsError), staged(target, override=True) as folder:
        folder.mkdir()
    assert [path.name for path in target.iterdir()] == ["old"]
    assert list((tmp_path / ".work").iterdir()) == []


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    refused(tmp_path / "nothing.nav", tmp_path, "there is no package at .*nothing.nav")


def test_what_is_no_zip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.nav"
    path.write_text("no zip")
    refused(path, tmp_path, "no .nav package, or it is damaged")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_truncated_package_is_refused(saved: Path, tmp_path: Path, share: float) -> None:
    content = saved.read_bytes()
    saved.write_bytes(content[: int(len(content) * share)])
    refused(saved, tmp_path, "damaged")


def test_a_flipped_byte_of_a_member_is_refused(saved: Path, tmp_path: Path) -> None:
    content = saved.read_bytes()
    at = content.index(b"graphgraph")
    saved.write_bytes(content[:at] + b"G" + content[at + 1 :])
    refused(saved, tmp_path, r"member 'onnx/model\.onnx' cannot be read: Bad CRC-32")


def test_a_zip_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.nav"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("status.yaml", "format_version: 0.1.0")
    refused(path, tmp_path, "has no package.json: it is no .nav package")


def test_an_unknown_version_is_refused(saved: Path, tmp_path: Path) -> None:
    rewrite(saved, lambda _, document: document.update(format_version="99"))
    refused(saved, tmp_path, "format version '99'; this release reads '1'")


def test_a_member_with_another_digest_is_refused(saved: Path, tmp_path: Path) -> None:
    rewrite(saved, lambda members, _: members.update({"onnx/model.onnx": b"paper" * 1000}))
    refused(saved, tmp_path, r"member 'onnx/model\.onnx' has digest sha256:\w+, package.json says")


def test_a_member_of_another_size_is_refused(saved: Path, tmp_path: Path) -> None:
    rewrite(saved, lambda members, _: members.update({"onnx/model.onnx": b"paper"}))
    refused(saved, tmp_path, "has 5 bytes, package.json says 5000")


def test_a_member_that_is_not_listed_is_refused(saved: Path, tmp_path: Path) -> None:
    rewrite(saved, lambda members, _: members.update({"onnx/custom_objects.pkl": b"code"}))
    refused(saved, tmp_path, r"'onnx/custom_objects\.pkl' .* is not listed")


def test_a_listed_member_that_is_missing_is_named(saved: Path, tmp_path: Path) -> None:
    rewrite(saved, lambda members, _: members.pop("onnx/model.onnx") and None)
    refused(saved, tmp_path, r"'onnx/model\.onnx' .* is missing")


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "/etc/evil",
        "onnx/../../evil",
        "onnx\\..\\evil",
        "C:/evil",
        ".source/evil",
        "onnx//evil",
        "./evil",
    ],
)
def test_a_path_that_leads_out_is_refused(saved: Path, tmp_path: Path, name: str) -> None:
    def change(members: dict[str, bytes], document: dict[str, Any]) -> None:
        members[name] = b"evil"
        listed(b"evil", document, name)

    rewrite(saved, change)
    refused(saved, tmp_path, "may lead out of the workspace")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_are_refused(saved: Path, tmp_path: Path, kind: int) -> None:
    with zipfile.ZipFile(saved, "a") as archive:
        info = zipfile.ZipInfo("onnx/link")
        info.external_attr = (kind | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    refused(saved, tmp_path, r"'onnx/link' .* is no plain file")


def test_a_member_that_is_there_twice_is_refused(saved: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(saved, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("onnx/model.onnx", b"graph" * 1000)
    refused(saved, tmp_path, "is there twice")


def test_a_file_that_is_also_a_folder_is_refused(saved: Path, tmp_path: Path) -> None:
    def change(members: dict[str, bytes], document: dict[str, Any]) -> None:
        members["onnx/model.onnx/inner"] = b"x"
        listed(b"x", document, "onnx/model.onnx/inner")

    rewrite(saved, change)
    refused(saved, tmp_path, "a file and a folder at once")


@pytest.mark.parametrize("name", ["../evil", "a/b", "", "Über", "x" * 100])
def test_a_model_name_that_is_no_name_is_refused(saved: Path, tmp_path: Path, name: str) -> None:
    rewrite(saved, lambda _, document: document.update(model_name=name))
    refused(saved, tmp_path, "package.json of .* is wrong")


@pytest.mark.parametrize("members", [None, [], {"status.yaml": 3}, {"status.yaml": {"bytes": "many"}}])
def test_a_list_of_members_that_is_none_is_refused(saved: Path, tmp_path: Path, members: object) -> None:
    rewrite(saved, lambda _, document: document.update(members=members))
    refused(saved, tmp_path, "package.json of .* is wrong")


def test_a_package_larger_than_the_disk_is_refused(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    refused(saved, tmp_path, r"unpacks to \d+ bytes; .* has 100 left")


def test_a_zip_that_says_less_than_it_holds_is_refused(saved: Path, tmp_path: Path) -> None:
    bomb = b"\0" * (1 << 22)

    def change(members: dict[str, bytes], document: dict[str, Any]) -> None:
        listed(b"\0", document, "bomb")

    rewrite(saved, change)
    with zipfile.ZipFile(saved, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", bomb)
        archive.getinfo("bomb").file_size = 1  # what the directory will say
    refused(saved, tmp_path, "member 'bomb'")
