"""Rows come in as they were written, whatever table or folder held them."""

import io
import json
import sys

import pytest
from inlay.errors import UsageError
from inlay.jobs.manifest import read_rows


def rows(*sources, output, masks=None):
    return list(read_rows(sources, output, masks))


def test_jsonl_csv_and_parquet_say_the_same(tmp_path):
    (tmp_path / "r.jsonl").write_bytes(
        b'\xef\xbb\xbf{"photo": "a.jpg", "seed": 3, "words": null}\r\n\n{"photo": "b.jpg", "point": [[1, 2], [3, 4]]}\n'
    )
    (tmp_path / "r.csv").write_text('photo,seed,point\na.jpg,3,\nb.jpg,,"[[1, 2], [3, 4]]"\n')
    (tmp_path / "r.tsv").write_text("photo\tseed\tpoint\na.jpg\t3\t\nb.jpg\t\t[[1, 2], [3, 4]]\n")
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = [{"photo": "a.jpg", "seed": 3}, {"photo": "b.jpg", "point": [[1, 2], [3, 4]]}]
    points = pyarrow.list_(pyarrow.list_(pyarrow.int64()))
    columns = pyarrow.schema([("photo", pyarrow.string()), ("seed", pyarrow.int64()), ("point", points)])
    parquet.write_table(pyarrow.Table.from_pylist(table, columns), tmp_path / "r.parquet")
    for name in ("r.jsonl", "r.csv", "r.tsv", "r.parquet"):
        one, two = rows(tmp_path / name, output=tmp_path / "out")
        assert {key: str(value) for key, value in one.fields.items()} == {"photo": "a.jpg", "seed": "3"}
        assert two.fields == {"photo": "b.jpg", "point": [[1, 2], [3, 4]]}
        assert one.folder == tmp_path


def test_standard_input_is_jsonl_or_csv(tmp_path, monkeypatch):
    for text in (b'{"photo": "a.jpg"}\n', b"photo,seed\na.jpg,\n"):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
        (row,) = rows("-", output=tmp_path)
        assert row.fields == {"photo": "a.jpg"}


@pytest.mark.parametrize("line", ["nonsense", "[1]", '"a"', "[" * 100_000, '{"photo": ', "\x00"])
def test_a_line_that_is_no_row_is_named(tmp_path, line):
    (tmp_path / "r.jsonl").write_text('{"photo": "a.jpg"}\n' + line + "\n")
    _, wrong = rows(tmp_path / "r.jsonl", output=tmp_path)
    assert "r.jsonl:2 is no row" in wrong.wrong


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("r.csv", b"a,a\n1,2\n", "the column a more than once"),
        ("r.csv", b"\xff\xfea", "not text in UTF-8"),
        ("r.csv", b'photo\n"a\n', "no CSV from line"),
        ("r.parquet", b"PAR1", "no Parquet"),
    ],
)
def test_a_table_that_cannot_be_read_is_named(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=said):
        rows(tmp_path / name, output=tmp_path)


def test_surplus_cells_are_named(tmp_path):
    (tmp_path / "r.csv").write_text("photo,prompt\na.jpg,a cat, red\n")
    (row,) = rows(tmp_path / "r.csv", output=tmp_path)
    assert "more cells than there are columns" in row.wrong


def test_blank_rows_of_a_csv_are_none_and_spaces_after_commas_no_text(tmp_path):
    (tmp_path / "r.csv").write_text(
        '\n,,\nphoto, prompt, seed\na.jpg, "a cat, red", 3\n,,\n , ,\nb.jpg, a, dog, 1\n,,,\n'
    )
    one, two = rows(tmp_path / "r.csv", output=tmp_path / "out")
    assert (one.fields, one.where) == (
        {"photo": "a.jpg", "prompt": "a cat, red", "seed": "3"},
        f"{tmp_path}/r.csv:4",
    )
    assert f"The line {tmp_path}/r.csv:7 has more cells" in two.wrong
    (tmp_path / "r.csv").write_text('\n\nphoto\na.jpg\n"b\n')
    with pytest.raises(UsageError, match="no CSV from line 5"):
        rows(tmp_path / "r.csv", output=tmp_path / "out")
    for nothing in ("", "\n,,\n"):
        (tmp_path / "r.csv").write_text(nothing)
        assert rows(tmp_path / "r.csv", output=tmp_path / "out") == []


def test_a_folder_is_not_searched_where_inlay_wrote_or_hid(tmp_path):
    made = ("in/inlay-history/photos/a.png", "in/sub/inlay-history/masks/0.png", "in/first/a.png", "in/part/a.png")
    for name in (*made, "in/.thumbnails/x.png", "in/a.png", "in/sub/b.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for name in ("first/ledger", "part/ledger-1-of-2"):
        line = {"id": "a.png", "state": "done", "outputs": {"a.png": ""}}
        (tmp_path / f"in/{name}.jsonl").write_text(json.dumps(line) + "\n")
    (tmp_path / "in/ledger.jsonl").write_text(json.dumps({"id": "a.png", "state": "done", "outputs": {"a.png": ""}}))
    for name in ("report/1.jpg", "first/report/1.jpg", "first/original.png"):
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "in" / name).touch()
    found = rows(tmp_path / "in", output=tmp_path / "out")
    assert [row.fields["id"] for row in found] == ["a.png", "first/original.png", "sub/b.png"]
    for named in (tmp_path / "in/part", f"{tmp_path}/in/p*/*.png"):
        (one,) = rows(named, output=tmp_path / "out")
        assert one.fields["photo"] == str(tmp_path / "in/part/a.png"), "results may be the photos of the next batch"


def test_photos_below_the_output_folder_are_photos(tmp_path):
    for name in ("in/a.png", "in/b.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for source in (tmp_path / "in", f"{tmp_path}/in/*.png"):
        found = rows(source, output=tmp_path, masks=tmp_path)
        assert [row.fields["id"] for row in found] == ["a.png", "b.png"]
    assert len(rows(tmp_path / "in/a.png", output=tmp_path)) == 1


def test_photos_of_folders_and_patterns_keep_their_paths(tmp_path):
    for name in ("in/a.jpg", "in/sub/a.jpg", "in/.hidden.jpg", "in/notes.txt", "in/out/done.png", "masks/a.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = rows(tmp_path / "in", output=tmp_path / "in" / "out")
    assert [row.fields["id"] for row in found] == ["a.jpg", "sub/a.jpg"]
    found = rows(f"{tmp_path}/in/**/*.jpg", output=tmp_path / "out")
    assert [row.fields["id"] for row in found] == ["a.jpg", "sub/a.jpg"]
    (one,) = rows(tmp_path / "in" / "sub" / "a.jpg", output=tmp_path / "out", masks=tmp_path / "masks")
    assert one.fields["mask"] == str(tmp_path / "masks" / "a.png")
    (tmp_path / "masks" / "a.png").rename(tmp_path / "masks" / "a.PNG")
    (one,) = rows(tmp_path / "in" / "a.jpg", output=tmp_path / "out", masks=tmp_path / "masks")
    assert one.fields["mask"] == str(tmp_path / "masks" / "a.PNG")
    (tmp_path / "masks" / "a.tif").touch()
    (one,) = rows(tmp_path / "in" / "a.jpg", output=tmp_path / "out", masks=tmp_path / "masks")
    assert "several masks" in one.wrong
    with pytest.raises(UsageError, match="There is no"):
        rows(tmp_path / "nowhere", output=tmp_path)
