"""Make data/opinions: short English opinions with labels, from a small grammar and from sentences written by hand.

    PYTHONPATH=.. python make_opinions.py

All text here is the book's own. The same script gives the same bytes again; it uses the book's split, so that each split
holds its own pairs of aspect and adjective (install the book first). ``--output`` writes to another folder.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from shipping import ship

from src.datasets.opinions import KINDS, LABELS, unit_split

HERE = Path(__file__).resolve().parent
SHARES = {
    "plain": {"train": 33, "validation": 16, "test": 16},
    "negated": {"train": 14, "validation": 7, "test": 7},
    "contrast": {"train": 14, "validation": 7, "test": 7},
}
"""Sentences of each topic and label in each split; those that are implied are all kept."""

ASPECTS = {
    "film": {
        "the acting": ("superb convincing moving brilliant", "wooden dreadful lifeless clumsy"),
        "the plot": ("gripping clever original thrilling", "predictable tedious confusing absurd"),
        "the ending": ("moving satisfying perfect touching", "disappointing ridiculous lazy weak"),
        "the dialogue": ("witty sharp hilarious natural", "stilted silly awkward boring"),
        "the soundtrack": ("beautiful haunting wonderful memorable", "irritating ugly deafening dull"),
    },
    "hotel": {
        "the room": ("spotless cosy spacious bright", "filthy cramped gloomy damp"),
        "the bed": ("comfortable soft lovely huge", "lumpy uncomfortable broken awful"),
        "the breakfast": ("delicious generous excellent fresh", "stale terrible meagre disgusting"),
        "the receptionist": ("friendly charming helpful kind", "rude unhelpful arrogant grumpy"),
        "the bathroom": ("gleaming elegant immaculate modern", "mouldy smelly shabby dirty"),
    },
    "restaurant": {
        "the soup": ("tasty delicious heavenly rich", "bland watery salty lukewarm"),
        "the service": ("attentive prompt flawless friendly", "slow careless hopeless rude"),
        "the dessert": ("divine splendid delightful irresistible", "soggy sickly inedible horrible"),
        "the menu": ("tempting inventive marvellous varied", "boring overpriced uninspired dreary"),
        "the waiter": ("polite charming patient cheerful", "impatient sloppy sullen unpleasant"),
    },
    "book": {
        "the story": ("fascinating enchanting absorbing brilliant", "tedious dull pointless muddled"),
        "the style": ("elegant graceful vivid witty", "pompous clumsy lifeless dreary"),
        "the heroine": ("lovable believable fascinating funny", "annoying shallow unconvincing tiresome"),
        "the translation": ("superb fluent excellent graceful", "sloppy awkward terrible unreadable"),
        "the last chapter": ("unforgettable breathtaking satisfying beautiful", "disappointing rushed feeble ridiculous"),
    },
    "phone": {
        "the screen": ("gorgeous sharp stunning bright", "dim blurry scratched useless"),
        "the battery": ("reliable impressive fantastic excellent", "pathetic faulty weak unreliable"),
        "the camera": ("amazing outstanding impressive superb", "mediocre poor terrible disappointing"),
        "the keyboard": ("comfortable responsive pleasant convenient", "fiddly sluggish frustrating uncomfortable"),
        "the software": ("stable clever smooth intuitive", "buggy bloated slow maddening"),
    },
    "course": {
        "the teacher": ("inspiring patient wonderful encouraging", "arrogant boring disorganised unfair"),
        "the homework": ("useful enjoyable stimulating rewarding", "pointless tedious repetitive exhausting"),
        "the textbook": ("lucid helpful excellent readable", "outdated confusing dreadful unreadable"),
        "the group work": ("fun fruitful lively motivating", "chaotic frustrating useless dreary"),
        "the final exam": ("fair reasonable sensible rewarding", "unfair absurd dreadful chaotic"),
    },
}  # fmt: skip
"""Per topic and aspect four adjectives of its own that praise and four that blame."""

COMMON = (["good", "great", "excellent", "wonderful", "fantastic", "lovely", "amazing", "superb"],
          ["bad", "awful", "terrible", "horrible", "dreadful", "disappointing", "poor", "appalling"])
"""Adjectives that fit every aspect; each aspect takes four of either side in turn, so that all occur with many aspects."""

FRAMES = {
    "plain": (
        "{A} was {x}.",
        "I found {a} {x}.",
        "{A} turned out to be {x}.",
        "Everyone agreed that {a} was {x}.",
        "To my surprise, {a} was really {x}.",
        "If you ask me, {a} was {x}.",
        "{A} was just as {x} as people had told me.",
        "I have rarely come across anything as {x} as {a}.",
        "{A}? Very {x}, I must say.",
        "Most of all I remember how {x} {a} was.",
    ),
    "negated": (
        "{A} was not {x} at all.",
        "{A} was anything but {x}.",
        "I would never call {a} {x}.",
        "There was nothing {x} about {a}.",
        "{A} was far from {x}.",
        "They had told me that {a} was {x}, and it was not true.",
        "Nobody at our table thought that {a} was {x}.",
        "I cannot say that {a} was {x}; quite the opposite.",
    ),
    "contrast": (
        "{B} was {y}, but {a} was {x}, and that decided it for me.",
        "Although {b} was {y}, {a} was so {x} that I forgot about it.",
        "{A} was {x}, and that mattered more to me than the fact that {b} was {y}.",
        "Yes, {b} was {y}. Even so, {a} was {x}, and this is how I will remember it.",
        "Who cares that {b} was {y} when {a} was as {x} as this?",
        "In spite of everything, {a} was {x}; that {b} was {y} hardly counts.",
    ),
}
"""{a}, {x}: the aspect and adjective that decide the label; {b}, {y}: another aspect with the opposite praise."""

IMPLIED = {
    "film": (
        ("I watched it twice in one weekend.", "Nobody in the cinema moved until the lights came on.",
         "My brother has been quoting it all week.", "We talked about it the whole way home.",
         "I would give up my birthday to see it again for the first time.", "I wish there were a second part already.",
         "Even my grandmother put down her knitting to watch.", "I bought tickets for three more people the next day.",
         "Two hours went by like ten minutes.", "The audience stood up and clapped."),
        ("I left after forty minutes.", "Half the audience was asleep by the end.",
         "I kept looking at my watch.", "I would like those two hours of my life back.",
         "My popcorn had more personality than the hero.", "We had guessed the murderer before the titles were over.",
         "People around us began to check their phones.", "I have seen better stories in a washing machine manual.",
         "They should have stopped after the first scene.", "My friends will never let me choose a film again."),
    ),
    "hotel": (
        ("We have already booked the same room for next year.", "I slept better there than at home.",
         "They upgraded us and brought flowers for our anniversary.", "I did not want to check out.",
         "The manager found my lost ring and drove it to the airport.", "Our children still ask when we can go back.",
         "Every evening there was a chocolate on my pillow.", "We extended our stay by three days.",
         "I have told all my colleagues to stay there.", "It felt like coming home."),
        ("There were hairs in the sink when we arrived.", "We moved to another place after the first night.",
         "The drill next door started at six in the morning.", "I slept in my coat because the heating did not work.",
         "They charged us for a minibar that was empty.", "I asked for my money back.",
         "We counted four cockroaches before dinner.", "The photos on the website must be thirty years old.",
         "It took them two hours to find our reservation.", "I would rather sleep at the railway station."),
    ),
    "restaurant": (
        ("I licked the plate when nobody was looking.", "We have eaten there every Friday since.",
         "My mother asked the cook for the recipe.", "I dream of that pie.",
         "There was not a crumb left on the table.", "We ordered the same again, although we were full.",
         "People queue around the corner, and now I know why.", "I would drive a hundred miles for another bowl.",
         "The children finished their vegetables without a word.", "I left a big tip and a thank-you note."),
        ("I found a piece of plastic in my salad.", "We waited ninety minutes for a glass of water.",
         "The dog refused what we took home.", "I was ill for two days afterwards.",
         "We stopped for a sandwich on the way home, still hungry.", "They brought the wrong dish twice.",
         "I have had better meals on a plane.", "Our plates went back to the kitchen almost untouched.",
         "The bill was the only thing that arrived quickly.", "Next time I will cook myself."),
    ),
    "book": (
        ("I read it in one night.", "I missed my stop because of it.",
         "I have given a copy to everyone I know.", "It has not left my bedside table since.",
         "When I turned the last page, I started again at the first.", "My daughter reads it under the blanket with a torch.",
         "I underlined something on every page.", "It made me laugh out loud on the bus.",
         "I am counting the days until the next volume.", "If I could keep only one novel, it would be this one."),
        ("I gave up on page fifty.", "It is now holding up the leg of my desk.",
         "I fell asleep over it three times.", "The author seems to have been paid by the word.",
         "I sold it the same week.", "I have read more exciting telephone directories.",
         "Somebody should have told the author to stop.", "I skipped whole chapters and missed nothing.",
         "What a waste of paper.", "It went straight into the bin."),
    ),
    "phone": (
        ("I have ordered a second one for my wife.", "I charge it on Sunday and it lasts until Thursday.",
         "It fell down the stairs and works as on the first day.", "My old one has been in a drawer ever since.",
         "Even my father understood it within five minutes.", "I would buy it again without thinking twice.",
         "After three years I still see no reason to replace it.", "My friends all want to borrow it for their photos.",
         "It does everything that I wanted and costs half as much.", "I have not had to restart it once."),
        ("It died after two weeks.", "I sent it back the next morning.",
         "By noon I am looking for a socket.", "It switches itself off in the middle of every call.",
         "The shop has repaired it four times now.", "My pictures look as if they were taken through a wet sock.",
         "I went back to my ten-year-old one.", "Save your money.",
         "It gets so hot that I could fry an egg on it.", "Two buttons came off in the first month."),
    ),
    "course": (
        ("I have signed up for the next level.", "For the first time I understood what a derivative is.",
         "We stayed after class to go on talking.", "I got my new job thanks to it.",
         "My son cannot wait for Monday now.", "I still use my notes every day.",
         "At the end we all gave the teacher a present.", "I learnt more in a month than in three years at school.",
         "Nobody ever missed a lesson.", "I have persuaded two friends to take it next term."),
        ("I stopped going after the third week.", "Most of us spent the lessons playing with our phones.",
         "In June I knew as much as in January.", "The teacher read the slides aloud, word for word.",
         "Only four of the thirty students were left at the end.", "I want my fee back.",
         "Our questions were never answered.", "I could have learnt more from a cereal box.",
         "They cancelled every second lesson.", "I have never been so glad to hear a bell ring."),
    ),
}  # fmt: skip
"""Per topic ten sentences that praise and ten that blame without saying so; no grammar, one each."""


class Opinion(NamedTuple):
    """One line of the file; unit: what decides the split."""

    label: int
    kind: str
    topic: str
    unit: str
    text: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=HERE / "opinions", help="where to write (default: data/opinions)")
    lines = make()
    table = "".join("\t".join(map(str, line)) + "\n" for line in lines)
    ship(parser.parse_args().output, {"opinions.tsv": table.encode()})
    print(len(lines), dict(Counter(line.kind for line in lines)), dict(Counter(unit_split(line.unit) for line in lines)))


def make() -> list[Opinion]:
    """All opinions, mixed by a hash of their text other than the one that chooses among them."""
    lines = [Opinion(label, "implied", topic, f"{topic} {number}", text)
             for topic, sides in IMPLIED.items() for label, side in zip((1, 0), sides, strict=True)
             for number, text in enumerate(side)]
    for topic, kind, label in itertools.product(ASPECTS, SHARES, range(len(LABELS))):
        found = sorted(written(topic, kind, label), key=lambda line: digest(line.text))
        for split, count in SHARES[kind].items():
            lines += spread([line for line in found if unit_split(line.unit) == split], count)
    assert {line.kind for line in lines} == set(KINDS) and len({line.text for line in lines}) == len(lines)
    return sorted(lines, key=lambda line: digest(f"order {line.text}"))


def written(topic: str, kind: str, label: int) -> list[Opinion]:
    """Every sentence that the frames of a kind can say on a topic with this label."""
    own = 1 - label if kind == "negated" else label
    pairs, found = [pairs_of(topic, own), pairs_of(topic, 1 - own)], []
    for frame, (aspect, adjective) in itertools.product(FRAMES[kind], pairs[0]):
        unit = f"{aspect}|{adjective}"
        others = [pair for pair in pairs[1] if pair[0] != aspect and unit_split("|".join(pair)) == unit_split(unit)]
        for other in others if kind == "contrast" else [("", "")]:
            text = frame.format(a=aspect, A=capital(aspect), x=adjective, b=other[0], B=capital(other[0]), y=other[1])
            found.append(Opinion(label, kind, topic, unit, text))
    return found


def pairs_of(topic: str, label: int) -> list[tuple[str, str]]:
    """Aspects of a topic with the adjectives that praise (label 1) or blame (0) them."""
    found = []
    for number, (aspect, sides) in enumerate(ASPECTS[topic].items()):
        common = [COMMON[1 - label][(2 * number + step) % 8] for step in range(4)]
        found += [(aspect, adjective) for adjective in dict.fromkeys(sides[1 - label].split() + common)]
    return found


def spread(lines: list[Opinion], count: int) -> list[Opinion]:
    """``count`` of the lines, as evenly over their units as that allows: first one of each, then a second, ..."""
    seen: Counter = Counter()
    rounds = []
    for line in lines:
        rounds.append((seen[line.unit], digest(line.text)))
        seen[line.unit] += 1
    if len(lines) < count:
        raise SystemExit(f"{len(lines)} sentences where {count} are wanted: choose another salt")
    return [line for _, line in sorted(zip(rounds, lines, strict=True))[:count]]


def capital(words: str) -> str:
    return words[:1].upper() + words[1:]


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


if __name__ == "__main__":
    main()
