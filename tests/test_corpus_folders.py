"""Folders and globs of text and Markdown files."""

import os

import pytest

from semsearch.corpus import read_corpus
from semsearch.corpus.folders import split_title
from semsearch.errors import InputError
from semsearch.types import Document


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "docs"
    for name, text in {
        "b.md": "# Second\n\nbody b\n",
        "a.txt": "\ufeff# not a heading\r\nplain\r\n",
        "sub/deep/c.MD": "intro\n\n## Third ##\nbody c",
        "sub.txt": "before the folder of the same stem?",
        "sub/empty.txt": "",
        "picture.png": "no",
        ".hidden.txt": "no",
        ".git/config.txt": "no",
        "Z.markdown": "Zeta\n====\nbody z",
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="")
    return root


EXPECTED = [
    Document("Z.markdown", "body z", "Zeta"),
    Document("a.txt", "# not a heading\nplain"),
    Document("b.md", "body b", "Second"),
    Document("sub/deep/c.MD", "intro\n\n## Third ##\nbody c", "Third"),
    Document("sub/empty.txt", ""),
    Document("sub.txt", "before the folder of the same stem?"),
]


def test_a_folder(folder):
    found = list(read_corpus(folder))
    assert found == EXPECTED
    assert {(d.source, d.line) for d in found} == {(str(folder), 0)}


def test_the_form_of_the_path_changes_no_id(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    for form in ("docs", "docs/", "./docs", "docs/sub/.."):
        assert list(read_corpus(form)) == EXPECTED
    monkeypatch.chdir(folder)
    assert list(read_corpus(".")) == EXPECTED
    assert [d.source for d in read_corpus("./")] == ["./"] * 6


def test_links_are_not_followed_out_of_the_folder(folder, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.txt").write_text("secret")
    (folder / "out.txt").symlink_to(outside / "secret.txt")
    (folder / "outdir").symlink_to(outside, target_is_directory=True)
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    (folder / "broken.txt").symlink_to("nowhere.txt")
    assert list(read_corpus(folder)) == EXPECTED
    (folder / "inside.txt").symlink_to("sub.txt")
    extra = Document("inside.txt", "before the folder of the same stem?")
    assert list(read_corpus(folder)) == [*EXPECTED[:3], extra, *EXPECTED[3:]]
    via_link = tmp_path / "link"
    via_link.symlink_to(folder, target_is_directory=True)
    assert list(read_corpus(via_link)) == [*EXPECTED[:3], extra, *EXPECTED[3:]]
    found = {d.id for d in read_corpus(str(folder / "**" / "*.txt"))}
    assert not any("secret" in name or "out" in os.path.basename(name) for name in found)
    assert len(found) == 3  # of the link and the file it leads to, one


def test_bad_files_are_skipped_or_stop(folder):
    bad = folder / "bad.txt"
    bad.write_bytes(b"fine\ncaf\xe9\n")
    with pytest.raises(InputError, match=f"^{bad}:2: not UTF-8"):
        list(read_corpus(folder))
    errors: list[InputError] = []
    assert list(read_corpus(folder, on_error="skip", on_skip=errors.append)) == EXPECTED
    assert [(error.file, error.line) for error in errors] == [(str(bad), 2)]


def test_a_file_name_that_is_not_utf_8(tmp_path):
    try:
        with open(os.path.join(os.fsencode(tmp_path), b"caf\xe9.txt"), "w") as file:
            file.write("text")
    except OSError:
        pytest.skip("THIS FILE SYSTEM ALLOWS ONLY UTF-8 NAMES")
    with pytest.raises(InputError, match="holds a NUL or a lone surrogate") as caught:
        list(read_corpus(tmp_path))
    assert "caf\\udce9.txt" in ascii(str(caught.value))


def test_a_folder_without_text(tmp_path):
    (tmp_path / "picture.png").write_bytes(b"")
    with pytest.raises(InputError) as caught:
        read_corpus(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: no corpus.jsonl or corpus.jsonl.gz in this folder "
        "and no .txt or .md file below it"
    )


@pytest.mark.skipif(not os.geteuid(), reason="ROOT READS EVERY FOLDER")
def test_a_folder_without_permission(folder):
    (folder / "sub").chmod(0)
    with pytest.raises(InputError, match=f"^{folder / 'sub'}: cannot read the folder: Permission"):
        list(read_corpus(folder))
    (folder / "sub").chmod(0o700)


def test_a_folder_in_the_layout_of_beir_is_its_corpus(folder):
    (folder / "corpus.jsonl").write_text('{"_id": "x", "text": "from the corpus"}\n')
    found = list(read_corpus(folder))
    assert found == [Document("x", "from the corpus")]
    assert found[0].source == str(folder / "corpus.jsonl")


def test_globs(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    found = list(read_corpus("docs/**/*.[mM]*"))
    assert [d.id for d in found] == ["docs/Z.markdown", "docs/b.md", "docs/sub/deep/c.MD"]
    assert {d.source for d in found} == {"docs/**/*.[mM]*"}
    assert [d.title for d in found] == ["Zeta", "Second", "Third"]
    assert [d.id for d in read_corpus("./docs/?.txt")] == ["docs/a.txt"]
    with pytest.raises(InputError) as caught:
        list(read_corpus("docs/*.rst"))
    assert str(caught.value) == "docs/*.rst: no file matches this pattern"


def test_globs_of_other_formats(tmp_path):
    for number in (2, 1):
        line = f'{{"id": {number}, "text": "t"}}\n'
        (tmp_path / f"part-{number}.jsonl").write_text(line)
    (tmp_path / "part-3.csv").write_text("id,text\n3,t\n")
    found = list(read_corpus(f"{tmp_path}/part-*"))
    assert [(d.id, os.path.basename(d.source), d.line) for d in found] == [
        ("1", "part-1.jsonl", 1),
        ("2", "part-2.jsonl", 1),
        ("3", "part-3.csv", 2),
    ]


def test_globs_follow_links_to_data_files_but_not_to_folders_outside(tmp_path):
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "1f").write_text('{"id": 1, "text": "t"}\n')
    (tmp_path / "blobs" / "b.jsonl").write_text('{"id": 2, "text": "t"}\n')
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.jsonl").symlink_to("../blobs/1f")
    (tmp_path / "data" / "again.jsonl").symlink_to("../blobs/1f")
    (tmp_path / "data" / "out").symlink_to("../blobs", target_is_directory=True)
    found = list(read_corpus(f"{tmp_path}/data/**/*.jsonl"))
    assert [(d.id, d.source) for d in found] == [("1", f"{tmp_path}/data/a.jsonl")]


def test_a_file_whose_name_looks_like_a_pattern(tmp_path):
    (tmp_path / "a[1].jsonl").write_text('{"id": 1, "text": "t"}\n')
    (tmp_path / "a1.jsonl").write_text('{"id": 2, "text": "t"}\n')
    assert [d.id for d in read_corpus(tmp_path / "a[1].jsonl")] == ["1"]


def test_single_files_are_known_by_the_path_given(folder, monkeypatch):
    monkeypatch.chdir(folder)
    found = list(read_corpus(["./b.md", "sub/deep/c.MD", folder / "a.txt"]))
    assert [(d.id, d.source) for d in found] == [
        ("b.md", "./b.md"),
        ("sub/deep/c.MD", "sub/deep/c.MD"),
        (str(folder / "a.txt"), str(folder / "a.txt")),
    ]


@pytest.mark.parametrize(
    ("text", "title", "rest"),
    [
        ("", "", ""),
        ("no heading\n", "", "no heading\n"),
        ("# One\nbody", "One", "body"),
        ("\n\n### Three ###  \nbody", "Three", "\n\nbody"),
        ("#\n# Next\n", "Next", "#\n# Next\n"),
        ("#hashtag\n\nbody", "", "#hashtag\n\nbody"),
        ("    # code\n", "", "    # code\n"),
        ("# C# and F#\n", "C# and F#", ""),
        ("```\n# comment\n```\n# Real\n", "Real", "```\n# comment\n```\n# Real\n"),
        ("````\n```\n# no\n````\n# Yes", "Yes", "````\n```\n# no\n````\n# Yes"),
        ("Set\n===\nbody", "Set", "body"),
        ("Sub\n---\nbody", "Sub", "body"),
        ("two\nlines\n---\n", "", "two\nlines\n---\n"),
        ("- item\n---\n", "", "- item\n---\n"),
        ("a\n\nLate\n====\nb", "Late", "a\n\nLate\n====\nb"),
        ("---\ntitle: x\n# comment\n---\n# Real\nb", "Real", "---\ntitle: x\n# comment\n---\nb"),
        ("---\nnever closed\n# Real\n", "Real", "---\nnever closed\n# Real\n"),
    ],
)
def test_titles_of_markdown(text, title, rest):
    assert split_title(text) == (title, rest)


def test_nul_in_a_text_file_is_refused(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"a\0b")
    with pytest.raises(InputError, match=r"a\.txt:1: the line holds a NUL byte"):
        list(read_corpus(tmp_path))
