"""mxnet_resnet.data.inputs: what is in records and lists, the bad ones among them."""

from __future__ import annotations

import pytest
from PIL import Image

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.data import check, classnames, inputs
from mxnet_resnet.data.encoder import Encoder
from tests.helpers.pictures import photograph, png, save
from tests.helpers.recordfiles import begins, change, header, write_records


def read_all(*sources: object, **options) -> list[str]:
    """Of each input its label, or what is wrong with it."""
    told = []
    for one in inputs.find(list(map(str, sources)), **options):
        try:
            one.read()
            told.append(str(one.label))
        except UserError as error:
            told.append(str(error))
    return told


def test_bad_records_are_passed_over_one_by_one(tmp_path):
    images = [png(photograph(16, 16, seed)) for seed in range(11)]
    images[3] = b"no image"
    path = write_records(tmp_path / "a.rec", images, [*map(float, range(9)), [1.0, 2.0], 10.0])
    places = begins_of(path, images)
    change(path, places[5], header(0, magic=7))
    told = read_all(path)
    good = {number: text for number, text in enumerate(told) if text.isdecimal()}
    assert good == {number: str(number) for number in (0, 1, 2, 4, 6, 7, 8, 10)}
    assert told[3].startswith(f"{path}[3] does not decode")
    assert told[5].startswith(f"{path}, record 5, byte {places[5]}: 0x00000007 stands where")
    assert told[9].startswith(f"{path}, record 9, byte {places[9]}: the record has 2 labels")
    path.write_bytes(path.read_bytes()[:-40])
    assert len(read_all(path)) == 11 and "the file ends before" in read_all(path)[10]


def begins_of(path, images) -> list[int]:
    sizes = [8 + 24 + len(image) + 8 * (number == 9) for number, image in enumerate(images)]
    return [sum(-(-size // 4) * 4 for size in sizes[:number]) for number in range(len(images))]


def test_padding_that_is_missing_costs_no_image(tmp_path):
    image = png(photograph(16, 16))
    path = write_records(tmp_path / "a.rec", [image + bytes(1 - len(image) % 4 + 4)] * 2)
    path.write_bytes(path.read_bytes()[:-2])
    assert read_all(path) == ["0", "0"]


def test_records_as_large_as_im2rec_makes_them_are_good(tmp_path):
    """12,000 x 12,000 pixels, which compress to some 100 kB."""
    Image.new("L", (12_000, 12_000)).save(tmp_path / "large.png")
    data = Encoder(pass_through=True).read(tmp_path / "large.png")
    assert isinstance(data, bytes), data
    path = write_records(tmp_path / "a.rec", [data])
    assert begins(path) == [0] and not check.check_file(path).findings
    Image.new("1", (20_000, 20_000)).save(tmp_path / "larger.png")
    assert "claim 20000x20000 pixels" in Encoder().read(tmp_path / "larger.png")


def test_the_paths_of_a_list_begin_at_its_root_or_beside_it(tmp_path, monkeypatch, capsys):
    save(tmp_path / "photos/a/0.png")
    save(tmp_path / "lists/b/1.png")
    save(tmp_path / "here/c/2.png")
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "lists/x.lst").write_text("0\t0\ta/0.png\n1\t1\tb/1.png\n2\t2\tc/2.png\n3\t3\td/3.png\n")
    told = read_all(tmp_path / "lists/x.lst", root=tmp_path / "photos")
    assert told[:3] == ["0", "1", "2"]
    assert told[3] == f"cannot read image {tmp_path}/photos/d/3.png: No such file or directory"
    others = f"x.lst: 2 images are not in {tmp_path}/photos; others were taken, such as {tmp_path}/lists/b/1.png"
    assert others in capsys.readouterr().err
    assert "lists/a/0.png" in read_all(tmp_path / "lists/x.lst")[0]
    assert "are not in" not in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_names_of_classes_in_the_encodings_that_say_what_they_are(tmp_path, encoding):
    (tmp_path / "names.txt").write_bytes("Flügel\r\nŠkoda\r\n".encode(encoding))
    assert classnames.read_class_names(tmp_path / "names.txt", 2) == ["Flügel", "Škoda"]


def test_a_second_mark_is_no_part_of_a_name(tmp_path):
    (tmp_path / "names.txt").write_text("\ufeffFlügel\n", encoding="utf-16")
    assert classnames.read_class_names(tmp_path / "names.txt", 1) == ["Flügel"]


def test_names_in_another_encoding_are_refused_in_a_sentence(tmp_path):
    (tmp_path / "names.txt").write_bytes("Flügel\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"names.txt: byte 2 is not UTF-8 text: save it in UTF-8$"):
        classnames.read_class_names(tmp_path / "names.txt", 1)


def test_what_is_passed_over_in_folders_and_lists_is_counted(tmp_path, capsys):
    save(tmp_path / "photos/a/0.png")
    save(tmp_path / "elsewhere/1.png")
    for name in ("notes.txt", "a/scan.pdf", "a/more.txt", ".hidden"):
        (tmp_path / "photos" / name).touch()
    (tmp_path / "photos/link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos/a/up").symlink_to(tmp_path / "photos")
    assert read_all(tmp_path / "photos") == ["None", "None"]
    said = capsys.readouterr()
    assert not said.out
    assert said.err.startswith(f"note: 3 files (.txt 2, .pdf 1) in {tmp_path}/photos passed over: not images")
    (tmp_path / "x.lst").write_text("0\t3\t1\tphotos/a/0.png\n1\t4\tphotos/a/0.png\n")
    assert read_all(tmp_path / "x.lst") == ["3", "4"]
    assert "x.lst: 1 line has more than one label, and the first one counts" in capsys.readouterr().err
