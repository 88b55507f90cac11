"""Videos written and read back, turned, cut short, and files that only look like videos."""

import struct
import tracemalloc
from pathlib import Path

import av
import numpy as np
import pytest

from realisdance_jax.data.blobs import Blob
from realisdance_jax.data.images import save_png
from realisdance_jax.data.video_io import VideoWriter, probe_video, read_frames, read_metadata
from realisdance_jax.utils.errors import UserError
from tests.refusals import refusal

SIZE = (48, 64)


def solid(number: int) -> np.ndarray:
    """A frame recognisable after compression: grey level 10 * number."""
    return np.full((*SIZE, 3), 10 * number, np.uint8)


def number(frame: np.ndarray) -> int:
    assert frame.dtype == np.uint8
    assert frame.shape[2] == 3
    return round(float(frame.mean()) / 10)


def write_each(path: Path, frames, size=SIZE, fps: float = 24, **options) -> Path:
    with VideoWriter(path, fps, size, **options) as writer:
        for frame in frames:
            writer.write(frame)
    return path


def write(path: Path, frames, fps: float = 24, **options) -> Path:
    frames = list(frames)
    return write_each(path, frames, frames[0].shape[:2], fps, **options)


@pytest.fixture
def video(tmp_path) -> Path:
    return write(tmp_path / "a.mp4", map(solid, range(20)))


@pytest.fixture
def noise(tmp_path) -> Path:
    """Incompressible, so that cutting the file at a fraction loses that share of the frames."""
    random = np.random.default_rng(0)
    frames = random.integers(0, 256, (12, *SIZE, 3), dtype=np.uint8)
    return write(tmp_path / "noise.mp4", frames)


def refused(call, path) -> str:
    line = refusal(call, path)
    assert Path(path).name in line
    return line


def read_all(path):
    return list(read_frames(path))


def test_round_trip(video):
    info = probe_video(video)
    assert (info.width, info.height, info.fps, info.frames) == (64, 48, 24, 20)
    assert [number(frame) for frame in read_frames(video)] == list(range(20))


def test_colours_survive(tmp_path):
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (10, 200, 90), (255, 255, 255)]
    frames = [np.full((*SIZE, 3), colour, np.uint8) for colour in colours]
    path = write(tmp_path / "a.mp4", frames, crf=8)
    for frame, colour in zip(read_frames(path), colours, strict=True):
        assert abs(frame.astype(int) - colour).max() <= 4


@pytest.mark.parametrize("fps", [8, 23.976, 24000 / 1001, 29.97, 12.5, 60])
def test_fractional_rates(fps, tmp_path):
    path = write(tmp_path / "a.mp4", map(solid, range(3)), fps=fps)
    assert probe_video(path).fps == pytest.approx(fps, rel=1e-6)


def test_chosen_frames_with_repeats(video):
    assert [number(frame) for frame in read_frames(video, [0, 3, 3, 19])] == [0, 3, 3, 19]
    assert list(read_frames(video, [])) == []
    first, second = read_frames(video, [5, 5])
    first[:] = 0
    assert number(second) == 5
    for wrong in ([3, 2], [-1, 0]):
        with pytest.raises(ValueError, match="ascending"):
            read_frames(video, wrong)
    with pytest.raises(UserError, match="at least 21 frames, found 20"):
        list(read_frames(video, [0, 20]))


def test_reading_is_streamed(tmp_path):
    random = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    path = write(tmp_path / "a.mp4", [random] * 40)
    tracemalloc.start()
    count = sum(1 for _ in read_frames(path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 40
    assert peak < 10 * random.nbytes


def test_metadata_is_kept(tmp_path):
    tags = {"seed": "42", "prompt": 'Grüße "x"\n{"a": 1}', "Config": "y" * 5000, "title": "t"}
    path = write(tmp_path / "a.mp4", [solid(1)], metadata=tags)
    assert read_metadata(path).items() >= tags.items()


def test_tags_in_another_encoding_do_no_harm(tmp_path):
    path = write(tmp_path / "a.mp4", [solid(1)], metadata={"artist": "ABCD"})
    path.write_bytes(path.read_bytes().replace(b"ABCD", b"A\xe4\xfcD"))
    assert read_metadata(path)["artist"] == "A\ufffd\ufffdD"
    assert number(read_all(path)[0]) == 1


def test_h264_yuv420p_with_the_index_first(video):
    with av.open(str(video)) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
    data = video.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def test_nothing_is_left_after_an_error(tmp_path):
    path = tmp_path / "a.mp4"

    def interrupted():
        yield solid(1)
        yield solid(2)
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_each(path, interrupted())
    with pytest.raises(ValueError, match="no frame"), VideoWriter(path, 8, SIZE):
        pass
    assert list(tmp_path.iterdir()) == []
    write(path, [solid(7)])
    with pytest.raises(ValueError, match="uint8 frame"), VideoWriter(path, 8, SIZE) as writer:
        writer.write(solid(1)[:-2])
    assert number(read_all(path)[0]) == 7
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.mp4"]


def test_bad_arguments_and_targets(tmp_path):
    for size in ((47, 64), (48, 63), (0, 64)):
        with pytest.raises(ValueError, match="even"):
            VideoWriter(tmp_path / "a.mp4", 8, size)
    for fps in (0, -3):
        with pytest.raises(ValueError, match="positive"):
            VideoWriter(tmp_path / "a.mp4", fps, SIZE)
    with VideoWriter(tmp_path / "a.mp4", 8, SIZE) as writer:
        with pytest.raises(ValueError, match="uint8 frame"):
            writer.write(np.zeros((*SIZE, 3), np.float32))
        writer.write(solid(1))
    refused(lambda path: write(path, [solid(1)]), tmp_path / "a.mp4" / "b.mp4")


def test_display_rotation_is_honoured(tmp_path):
    frame = np.zeros((*SIZE, 3), np.uint8)
    frame[:16, :16] = 255
    data = bytearray(write(tmp_path / "a.mp4", [frame] * 2).read_bytes())
    matrix = data.index(b"tkhd") + 44
    one = 1 << 16
    quarter = (0, one, 0, -one, 0, 0, 0, 0, 1 << 30)  # a phone held upright: turn clockwise
    data[matrix : matrix + 36] = struct.pack(">9i", *quarter)
    (tmp_path / "b.mp4").write_bytes(data)
    info = probe_video(tmp_path / "b.mp4")
    assert (info.width, info.height) == (48, 64)
    upright = read_all(tmp_path / "b.mp4")[0]
    assert upright.shape == (64, 48, 3)
    assert upright[4, -4].min() > 200
    assert upright[4, 4].max() < 50


@pytest.mark.parametrize("share", [0.3, 0.7, 0.9])
def test_truncated_files_are_detected(noise, share):
    data = noise.read_bytes()
    noise.write_bytes(data[: int(len(data) * share)])
    assert "truncated" in refused(probe_video, noise)
    assert "truncated" in refused(read_all, noise)
    assert next(read_frames(noise, [0])).shape == (*SIZE, 3)  # what is there stays readable
    refused(lambda path: list(read_frames(path, [11])), noise)


def test_a_missing_last_byte_is_detected(noise):
    noise.write_bytes(noise.read_bytes()[:-1])
    assert "truncated" in refused(probe_video, noise)
    assert "truncated" in refused(read_all, noise)


def test_a_cut_between_two_frames_is_detected(noise):
    with av.open(str(noise)) as container:
        starts = sorted(packet.pos for packet in container.demux(video=0) if packet.size)
    noise.write_bytes(noise.read_bytes()[: starts[7]])
    assert "expected 12 frames, found 7" in refused(probe_video, noise)
    assert "expected 12 frames" in refused(read_all, noise)


CONTAINERS = {
    "matroska": "libx264",
    "webm": "libvpx",
    "flv": "libx264",
    "avi": "mpeg4",
    "gif": "gif",
    "mpegts": "libx264",
}


def encoded(path: Path, kind: str, codec: str, sound: bool = False) -> bytes:
    """Twelve frames of noise in another container."""
    random = np.random.default_rng(0)
    with av.open(str(path), "w", format=kind) as container:
        stream = container.add_stream(codec, rate=10)
        stream.height, stream.width = SIZE
        stream.pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
        if sound:
            voice = container.add_stream("pcm_s16le", rate=8000, layout="mono")
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 12000), np.int16), "s16", "mono")
            silence.sample_rate = 8000
            container.mux(voice.encode(silence))
            container.mux(voice.encode())
        for _ in range(12):
            picture = random.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path.read_bytes()


@pytest.mark.parametrize("kind", CONTAINERS)
def test_other_containers_are_not_accepted_cut_short(kind, tmp_path):
    path = tmp_path / f"a.{kind}"
    data = encoded(path, kind, CONTAINERS[kind])
    assert probe_video(path).frames == 12
    assert len(read_all(Blob(data, "memory"))) == 12
    for share in (0.5, 0.95):
        path.write_bytes(data[: int(len(data) * share) // 188 * 188 + 100])
        assert "truncated" in refused(probe_video, path)
        assert "truncated" in refused(read_all, path)
        with pytest.raises(UserError, match=r"memory: .*truncated"):
            read_all(Blob(path.read_bytes(), "memory"))
        assert next(read_frames(path, [0])).shape == (*SIZE, 3)


def test_a_cut_between_two_frames_of_other_containers_is_detected(tmp_path):
    for kind in ("matroska", "avi"):
        path = tmp_path / kind
        data = encoded(path, kind, CONTAINERS[kind])
        with av.open(str(path)) as container:
            starts = sorted(packet.pos for packet in container.demux(video=0) if packet.size)
        path.write_bytes(data[: starts[11]])
        assert "truncated" in refused(probe_video, path)


def test_sound_that_outlasts_the_pictures_is_no_cut(tmp_path):
    encoded(tmp_path / "a.mkv", "matroska", "libx264", sound=True)
    assert probe_video(tmp_path / "a.mkv").frames == 12


def test_a_file_without_its_index_is_refused(noise):
    noise.write_bytes(noise.read_bytes()[:500])
    assert "damaged" in refused(probe_video, noise)


def test_damage_in_the_middle_is_not_passed_over(noise):
    data = bytearray(noise.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 4000] = bytes(4000)
    noise.write_bytes(data)
    refused(read_all, noise)


def test_containers_without_a_count_are_decoded(tmp_path):
    for name in ("a.mkv", "a.avi"):
        with av.open(str(tmp_path / name), "w") as container:
            stream = container.add_stream("mpeg4", rate=25)
            stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
            for level in range(7):
                picture = av.VideoFrame.from_ndarray(solid(level), format="rgb24")
                container.mux(stream.encode(picture))
            container.mux(stream.encode())
        info = probe_video(tmp_path / name)
        assert (info.frames, info.fps) == (7, 25)
        assert [number(frame) for frame in read_frames(tmp_path / name)] == list(range(7))


def test_files_that_are_no_video(tmp_path):
    assert "no such file" in refused(probe_video, tmp_path / "none.mp4")
    assert "no such file" in refused(read_frames, tmp_path / "none.mp4")
    (tmp_path / "text.mp4").write_text("hello, this is text\n" * 50)
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "list.mp4").write_text(
        "#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n"
    )
    (tmp_path / "concat.mp4").write_text("ffconcat version 1.0\nfile 'text.mp4'\n")
    for name in ("text.mp4", "empty.mp4", "list.mp4", "concat.mp4"):
        for call in (probe_video, read_all, read_metadata):
            assert "expected a video" in refused(call, tmp_path / name)


def test_sound_alone_is_no_video(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=48000, layout="mono")
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        silence.sample_rate = 48000
        container.mux(stream.encode(silence))
        container.mux(stream.encode())
    assert "no video stream" in refused(probe_video, tmp_path / "a.mp4")
    assert "no video stream" in refused(read_all, tmp_path / "a.mp4")


def test_a_video_without_frames_is_refused(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        container.start_encoding()
    for call in (probe_video, read_all):
        assert "expected a video" in refused(call, tmp_path / "a.mp4")


def test_folders_of_pictures(tmp_path):
    folder = tmp_path / "frames"
    for index in (10, 2, 1):
        save_png(folder / f"frame_{index}.png", solid(index))
    (folder / "notes.txt").write_text("ignored")
    (folder / "._frame_0.png").write_text("ignored")
    info = probe_video(folder)
    assert (info.width, info.height, info.fps, info.frames) == (64, 48, None, 3)
    assert [number(frame) for frame in read_frames(folder)] == [1, 2, 10]
    assert [number(frame) for frame in read_frames(folder, [1, 1, 2])] == [2, 2, 10]
    with pytest.raises(UserError, match="at least 4 frames, found 3"):
        list(read_frames(folder, [3]))
    save_png(folder / "frame_11.png", solid(3)[:-8])
    with pytest.raises(UserError, match=r"frame_11\.png: expected 64 x 48 pixels"):
        read_all(folder)
    (tmp_path / "none").mkdir()
    assert "found none" in refused(probe_video, tmp_path / "none")
    assert "found none" in refused(read_frames, tmp_path / "none")
