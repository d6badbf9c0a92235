"""Make data/speech with espeak-ng: each word of words.json in each voice, Chinese and English, and an index of them.

    apt-get install espeak-ng && cd data && pip install -r requirements.txt
    python make_speech.py

espeak-ng 1.51 and the versions pinned in requirements.txt give the same bytes again; speech/manifest.json holds their
hashes. Speed, pitch, pitch range and volume of an utterance are drawn from a hash of what it is.
"""

from __future__ import annotations

import argparse
import csv
import html
import io
import json
import random
import subprocess
import zlib
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import librosa
import numpy as np
import soundfile
from scipy.signal import resample_poly
from shipping import ship

VOICES = ("m3", "m7", "Andy", "Denis", "Diogo", "norbert", "f1", "f3", "f5", "belinda", "grandma", "steph")
"""Variants of espeak-ng, men before women: timbres far from each other, words told apart in each."""

LANGUAGES = {"zh": ("cmn-latn-pinyin", "pinyin"), "en": ("en-us", "en")}
"""espeak-ng's language and the field that it reads: version 1.51 spells most Chinese characters, but speaks pinyin."""

TAKES = {"digit": 2, "command": 2, "thing": 1, "emotion": 1}
RATE = 16_000
ESPEAK_RATE = 22_050
GAP = np.zeros(RATE // 50)
MARGIN = np.zeros(RATE // 100)
COMPRESSION = 0.976
"""libsndfile's scale for Opus; about 13 kbit/s."""
PEAK = 0.9
HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Prosody:
    """speed in words a minute, pitch 0 … 99, pitch range in % of the voice's own, volume 0 … 200, as espeak-ng has them."""

    speed: int
    pitch: int
    range: int
    volume: int


PLAIN = Prosody(165, 50, 100, 38)
EMOTIONS = {
    "neutral": PLAIN,
    "happy": Prosody(185, 66, 170, 42),
    "sad": Prosody(130, 38, 50, 24),
    "angry": Prosody(200, 54, 135, 58),
}
SPREAD = Prosody(15, 8, 15, 4)
"""How far an utterance may lie from its emotion's prosody, either way."""


@dataclass(frozen=True)
class Utterance:
    """A row of the index; start and length in samples of ``<voice>-<kind>.opus``."""

    voice: str
    kind: str
    language: str
    word: int
    emotion: str
    take: int
    speed: int
    pitch: int
    range: int
    volume: int
    start: int
    length: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=HERE / "speech", help="where to write (default: data/speech)")
    parser.add_argument("--voices", nargs="+", choices=VOICES, default=VOICES, metavar="VOICE",
                        help=f"only some of {' '.join(VOICES)}")
    options = parser.parse_args()
    make(options.output, tuple(options.voices))


def make(output: Path, voices: tuple[str, ...]) -> None:
    """Write a stream for each voice and kind, words.json, utterances.csv and manifest.json to ``output``."""
    text = (HERE / "speech" / "words.json").read_bytes()
    files, rows = {"words.json": text}, []
    for voice in voices:
        streams, utterances = record(voice, json.loads(text))
        files |= {f"{voice}-{kind}.opus": encode(stream) for kind, stream in streams.items()}
        rows += utterances
    ship(output, {"utterances.csv": table(rows), **files})


def record(voice: str, words: dict[str, list[dict]]) -> tuple[dict[str, np.ndarray], list[Utterance]]:
    """All that one voice says, as one stream for each kind and its rows of the index; its loudest sample is ``PEAK``."""
    streams, rows = {}, []
    for kind, entries in words.items():
        waves, start = [], 0
        for language, word, emotion, take in plan(kind, entries):
            prosody = draw(voice, language, entries[word]["en"], emotion, take)
            wave = speak(voice, language, entries[word], prosody)
            rows.append(Utterance(voice, kind, language, word, emotion, take, *astuple(prosody), start, len(wave)))
            waves += [wave, GAP]
            start += len(wave) + len(GAP)
        streams[kind] = np.concatenate(waves)
    loudest = max(np.abs(stream).max() for stream in streams.values())
    return {kind: PEAK / loudest * stream for kind, stream in streams.items()}, rows


def plan(kind: str, entries: list[dict]) -> list[tuple[str, int, str, int]]:
    """(language, row of the word, emotion, take) of each utterance of a kind."""
    emotions = EMOTIONS if kind == "emotion" else ("neutral",)
    return [(language, word, emotion, take) for language in LANGUAGES for word in range(len(entries))
            for emotion in emotions for take in range(TAKES[kind])]


def draw(voice: str, language: str, text: str, emotion: str, take: int) -> Prosody:
    """The prosody of one utterance, near that of its emotion, by random numbers of its own."""
    chance = random.Random(f"{voice}/{language}/{text}/{emotion}/{take}")
    return Prosody(*(round(middle + width * (2 * chance.random() - 1))
                     for middle, width in zip(astuple(EMOTIONS[emotion]), astuple(SPREAD), strict=True)))


def speak(voice: str, language: str, entry: dict, prosody: Prosody) -> np.ndarray:
    """One utterance at ``RATE``, silence cut off but for a hundredth of a second at both ends."""
    name, field = LANGUAGES[language]
    text = f'<speak><prosody range="{prosody.range}%">{html.escape(entry[field])}</prosody></speak>'
    command = ["espeak-ng", "-v", f"{name}+{voice}", "-m", "--stdout", "-s", prosody.speed, "-p", prosody.pitch,
               "-a", prosody.volume]
    done = subprocess.run([str(part) for part in command], input=text.encode(), capture_output=True, check=True)
    wave, rate = soundfile.read(io.BytesIO(done.stdout))
    if rate != ESPEAK_RATE or np.abs(wave).max() > 0.999:
        raise SystemExit(f"{voice} says {text}: {rate} Hz, peak {np.abs(wave).max():.3f}; expected {ESPEAK_RATE} Hz "
                         "and no clipping: lower the volume")
    wave, _ = librosa.effects.trim(wave, top_db=40, frame_length=512, hop_length=128)
    return np.concatenate([MARGIN, resample_poly(wave, RATE // 50, ESPEAK_RATE // 50), MARGIN])


def encode(stream: np.ndarray) -> bytes:
    data = io.BytesIO()
    soundfile.write(data, stream, RATE, format="OGG", subtype="OPUS", compression_level=COMPRESSION)
    return numbered(data.getvalue())


def numbered(ogg: bytes, serial: int = 1) -> bytes:
    """The same Ogg stream under a given serial number (libsndfile draws one) with its pages' checksums made anew."""
    pages, place = [], 0
    while place < len(ogg):
        body = place + 27 + ogg[place + 26]
        end = body + sum(ogg[place + 27:body])
        head, tail = ogg[place:place + 14] + serial.to_bytes(4, "little") + ogg[place + 18:place + 22], ogg[place + 26:end]
        pages.append(head + checksum(head + bytes(4) + tail).to_bytes(4, "little") + tail)
        place = end
    return b"".join(pages)


def checksum(page: bytes) -> int:
    """Ogg's CRC-32 (RFC 3533): zlib's with the bits the other way round and nothing inverted."""
    crc = zlib.crc32(page.translate(MIRRORED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{crc:032b}"[::-1], 2)


MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def table(rows: list[Utterance]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(field.name for field in fields(Utterance))
    writer.writerows(map(astuple, rows))
    return text.getvalue().encode()


if __name__ == "__main__":
    main()
