"""Sound beside the pictures: the same packets, in step, cut, or a refusal before anything runs."""

import hashlib
from pathlib import Path

import av
import numpy as np
import pytest

from realisdance_jax import sample
from realisdance_jax.data.demo_clip import write_demo_clip
from realisdance_jax.data.sound import CODECS, add_sound, check_sound
from realisdance_jax.data.video_io import VideoWriter, probe_video, read_frames, read_metadata
from realisdance_jax.sampling.output import write_outputs
from tests.refusals import refusal
from tests.sampling.test_output import FRAMES, animation

RATE = 48000
LENGTH = FRAMES / 7.5
ENCODERS = {"aac": "m4a", "libmp3lame": "mp3", "flac": "flac", "libopus": "ogg", "ac3": "mkv"}


def sound_file(path: Path, codec: str, seconds: float, film: bool = False) -> Path:
    """A clap (a burst of noise) every half second; with moving pictures if asked."""
    time = np.arange(round(seconds * RATE)) / RATE
    wave = np.random.default_rng(0).uniform(-0.7, 0.7, time.shape) * (time % 0.5 < 0.05)
    options = {"output_ts_offset": "2"} if path.suffix == ".ts" else {}
    with av.open(str(path), "w", options=options) as container:
        if film:
            video = container.add_stream("libx264", rate=10)
            video.width = video.height = 32
        stream = container.add_stream(codec, rate=RATE)
        stream.layout = "mono"
        for i in range(round(seconds * 10) if film else 0):
            picture = np.full((32, 32, 3), 10 * i % 250, np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        if film:
            container.mux(video.encode())
        samples = av.AudioFrame.from_ndarray(wave.astype(np.float32)[None], "fltp", "mono")
        samples.rate, samples.pts = RATE, 0
        size = stream.codec_context.frame_size or 1024
        resampler = av.AudioResampler(stream.format, "mono", RATE, size)
        for part in [*resampler.resample(samples), *resampler.resample(None)]:
            container.mux(stream.encode(part))
        container.mux(stream.encode())
    return path


def packets(path: Path, kind: str = "audio") -> list[str]:
    with av.open(str(path)) as container:
        found = container.demux(getattr(container.streams, kind)[0])
        return [hashlib.md5(bytes(packet)).hexdigest() for packet in found if packet.size]


def claps(path: Path) -> list[float]:
    """Seconds at which bursts begin."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        loud = []
        for frame in container.decode(stream):
            values = np.abs(frame.to_ndarray().astype(np.float64)).reshape(-1)
            values = values / (2**15 if frame.format.name.startswith("s16") else 1)
            loud += (float(frame.time) + np.flatnonzero(values > 0.2) / RATE).tolist()
    starts = np.array(loud)[np.diff(loud, prepend=-1) > 0.2]
    return starts.tolist()


@pytest.mark.parametrize("codec", ENCODERS)
def test_packets_are_copied_and_cut_where_the_video_ends(codec, tmp_path):
    sound = sound_file(tmp_path / f"sound.{ENCODERS[codec]}", codec, 3)
    plain, out = tmp_path / "plain.mp4", tmp_path / "new" / "out.mp4"
    write_outputs(plain, animation(), side_by_side=False)
    assert write_outputs(out, animation(), side_by_side=True, audio=sound)[0] == out
    copied, given = packets(out), packets(sound)
    assert copied == given[: len(copied)]
    assert len(copied) < len(given)
    assert packets(out, "video") == packets(plain, "video")
    assert probe_video(out) == probe_video(plain)
    kept, given = read_metadata(out), read_metadata(plain)
    assert {**kept, "compatible_brands": ""} == {**given, "compatible_brands": ""}
    for one, other in zip(read_frames(out), read_frames(plain), strict=True):
        np.testing.assert_array_equal(one, other)
    with av.open(str(out)) as container:
        stream = container.streams.audio[0]
        assert float(stream.duration * stream.time_base) == pytest.approx(LENGTH, abs=0.09)
    with av.open(str(tmp_path / "new" / "out_side_by_side.mp4")) as container:
        assert not container.streams.audio
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "out.mp4",
        "out_side_by_side.mp4",
    ]


@pytest.mark.parametrize("codec", ["aac", "flac"])
def test_sound_stays_in_step(codec, tmp_path):
    """Claps of the driver sound at their time; a late start of all streams is no delay."""
    film = sound_file(tmp_path / "film.mkv", codec, 2, film=True)
    write_outputs(tmp_path / "out.mp4", animation(), audio=film)
    assert claps(tmp_path / "out.mp4") == pytest.approx([0, 0.5], abs=0.03)
    if codec == "aac":  # time does not begin at 0
        late = sound_file(tmp_path / "late.ts", codec, 2, film=True)
        with av.open(str(late)) as container:
            assert container.streams.video[0].start_time * container.streams.video[0].time_base > 1
        write_outputs(tmp_path / "late.mp4", animation(), audio=late)
        assert claps(tmp_path / "late.mp4") == pytest.approx([0, 0.5], abs=0.06)


def test_short_sound_leaves_the_rest_silent(tmp_path):
    sound = sound_file(tmp_path / "short.m4a", "aac", 0.2)
    write_outputs(tmp_path / "out.mp4", animation(), audio=sound)
    assert packets(tmp_path / "out.mp4") == packets(sound)
    assert probe_video(tmp_path / "out.mp4").frames == FRAMES


def test_sound_that_cannot_be_used(tmp_path):
    silent = tmp_path / "silent.mp4"
    with VideoWriter(silent, 8, (32, 32)) as writer:
        writer.write(np.zeros((32, 32, 3), np.uint8))
    assert "silent.mp4: expected sound, found no audio stream" in refusal(check_sound, silent, 1)
    raw = sound_file(tmp_path / "raw.wav", "pcm_s16le", 0.1)
    line = refusal(check_sound, raw, 1)
    assert f"raw.wav: expected sound as {', '.join(CODECS)}, found pcm_s16le" in line
    assert "ffmpeg -i raw.wav" in line
    text = tmp_path / "text.mp3"
    text.write_text("#EXTM3U\nhttp://example.org/a.mp3\n")
    assert "text.mp3: expected sound, found an unreadable" in refusal(check_sound, text, 1)
    gone = tmp_path / "gone.mp3"
    assert "gone.mp3: expected a film or sound file" in refusal(check_sound, gone, 1)
    assert "found a folder" in refusal(check_sound, tmp_path, 1)


def late_film(path: Path, whole: Path, seconds: int) -> Path:
    """A film of one picture whose sound, that of `whole`, begins after a while."""
    with av.open(str(whole)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.audio[0])
        film = target.add_stream("libx264", rate=10)
        film.width = film.height = 32
        black = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
        target.mux(film.encode(black))
        target.mux(film.encode())
        for packet in source.demux(source.streams.audio[0]):
            if packet.size:
                packet.pts = packet.dts = packet.pts + seconds * RATE
                packet.stream = stream
                target.mux(packet)
    return path


def test_what_has_been_animated_is_kept_when_sound_fails(tmp_path):
    """The video without sound and all that belongs to it; no other files."""
    whole = sound_file(tmp_path / "whole.m4a", "aac", 2)
    late = late_film(tmp_path / "late.mov", whole, 10)
    cut = tmp_path / "cut.m4a"
    cut.write_bytes(whole.read_bytes()[:2000])
    plain = tmp_path / "plain" / "out.mp4"
    paths = write_outputs(plain, animation(), gates=True, frames=True)
    names = sorted(path.name for path in paths)
    for sound, reason in (
        (late, "late.mov: expected sound in the first 0.67 s, found none"),
        (cut, "cut.m4a: expected sound, found an unreadable"),
    ):
        out = tmp_path / sound.stem / "out.mp4"
        more = {"gates": True, "frames": True, "audio": sound}
        assert reason in refusal(write_outputs, out, animation(), **more)
        assert sorted(path.name for path in out.parent.iterdir()) == names
        # Not byte by byte: a busy machine can make the encoder choose otherwise.
        shown, expected = (np.stack(list(read_frames(path))) for path in (out, plain))
        assert shown.shape == expected.shape
        assert np.abs(shown.astype(int) - expected).mean() < 2


def test_sound_that_begins_too_late(tmp_path):
    whole = sound_file(tmp_path / "whole.m4a", "aac", 2)
    late = late_film(tmp_path / "late.mov", whole, 10)
    assert "found none" in refusal(check_sound, late, 9.5)
    check_sound(late, 10.5)


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "flv", "flac"])
def test_sound_that_has_been_cut_off(suffix, tmp_path):
    """Refused where the video is longer than what is left, whether sound or pictures end last."""
    codec, film = ("flac", False) if suffix == "flac" else ("aac", True)
    whole = sound_file(tmp_path / f"whole.{suffix}", codec, 8, film=film)
    if suffix == "mp4":  # with its index in front
        with av.open(str(whole)) as source:
            fast = tmp_path / "fast.mp4"
            with av.open(str(fast), "w", options={"movflags": "faststart"}) as target:
                streams = {s.index: target.add_stream_from_template(s) for s in source.streams}
                for packet in source.demux():
                    if packet.size:
                        packet.stream = streams[packet.stream.index]
                        target.mux(packet)
            whole = fast
    check_sound(whole, 60)
    cut = tmp_path / f"cut.{suffix}"
    content = whole.read_bytes()
    cut.write_bytes(content[: len(content) // 2])
    check_sound(cut, 0.5)
    line = refusal(check_sound, cut, 7)
    assert line.startswith(f"{cut}: expected 8.")
    assert line.endswith("the file is truncated")


def test_a_path_that_cannot_be_written(tmp_path):
    sound = sound_file(tmp_path / "short.m4a", "aac", 0.2)
    video = tmp_path / "v.mp4"
    write_outputs(video, animation(), side_by_side=False)
    line = refusal(add_sound, video, sound, tmp_path / "none" / "out.mp4")
    assert "out.mp4: cannot write the video (No such file" in line


def test_the_command_refuses_before_weights_are_read(tmp_path):
    clip = write_demo_clip(tmp_path, 2, 64, 48)
    good = ["--weights", "none", "--ref", clip.reference, "--hamer", clip.hamer]

    def refused(*words) -> str:
        options = sample.make_parser().parse_args([str(word) for word in (*good, *words)])
        return refusal(sample.list_cases, options, sample.make_config(options))

    out = ("--out", tmp_path / "out.mp4")
    assert "smpl.mp4: expected sound, found no audio stream" in refused("--audio", clip.smpl, *out)
    sound = sound_file(tmp_path / "s.mp4", "aac", 0.1)
    late = late_film(tmp_path / "late.mov", sound, 3)
    assert "late.mov: expected sound in the first 0.50 s" in refused("--audio", late, *out)
    assert "s.mp4: expected a file to write, found an input" in refused(
        "--audio", sound, "--out", sound
    )
    del good[2:]
    assert "--root without --audio" in refused("--root", tmp_path, "--audio", sound, *out)
