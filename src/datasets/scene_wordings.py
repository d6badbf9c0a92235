"""The words of the scenes: cells, sizes, sides, and the wordings of captions and questions, the last two held out."""

from __future__ import annotations

import re

from src.datasets.things import THINGS

CELLS = {
    "zh": ("左上", "中上", "右上", "左中", "正中", "右中", "左下", "中下", "右下"),
    "en": ("top left", "top center", "top right", "center left", "center", "center right",
           "bottom left", "bottom center", "bottom right"),
}
SIZES = {"zh": ("小", "大"), "en": ("small", "large")}
RELATIONS = {"zh": ("左边", "右边", "上边", "下边"), "en": ("left", "right", "above", "below")}
COMPARED = {"zh": ("小", "一样大", "大"), "en": ("smaller", "same", "larger")}
YES_NO = {"zh": ("是", "否"), "en": ("yes", "no")}

CAPTIONS = {
    "zh": (("{cell}有一{m}{size}{x}", "，", "，", "{}。"),
           ("一{m}{size}{x}在{cell}", "，", "，", "{}。"),
           ("{cell}的{size}{x}", "、", "和", "图里有{}。"),
           ("{cell}是一{m}{size}{x}", "；", "；", "这幅图的{}。"),
           ("画在{cell}的是一{m}{size}{x}", "，", "，", "{}。"),
           ("一{m}{size}{x}（{cell}）", "、", "和", "可以看到{}。")),
    "en": (("there is a {size} {x} at the {cell}", ", ", " and ", "{}."),
           ("a {size} {x} is at the {cell}", ", ", " and ", "{}."),
           ("a {size} {x} at the {cell}", ", ", " and ", "the picture shows {}."),
           ("at the {cell} is a {size} {x}", "; ", "; ", "{}."),
           ("a {size} {x} ({cell})", ", ", " and ", "we see {}."),
           ("the {cell} holds a {size} {x}", ", ", " and ", "{}.")),
}
"""(one thing, between things, before the last thing, the whole)"""

QUESTIONS = {
    "zh": {
        "what": ("{cell}是什么？", "{cell}有什么？", "图里{cell}放着什么？", "看{cell}，那是什么东西？",
                 "请说出{cell}的东西。", "什么东西位于{cell}？"),
        "where": ("{x}在哪里？", "{x}在图里的什么位置？", "{x}在哪个位置？", "图里的{x}在哪儿？",
                  "请指出{x}的位置。", "在哪里能找到{x}？"),
        "count": ("有几{n_x}{x}？", "图里有几{n_x}{x}？", "一共有多少{n_x}{x}？", "数一数，{x}有几{n_x}？",
                  "图里{x}的数量是多少？", "请说出{x}的个数。"),
        "exists": ("有{x}吗？", "图里有{x}吗？", "能看到{x}吗？", "这里有{x}，对吗？",
                   "{x}是否出现在图中？", "画面里是否有{x}？"),
        "relation": ("{x}在{y}的哪一边？", "{x}在{y}的哪个方向？", "以{y}为准，{x}在哪一边？", "从{y}看，{x}在哪边？",
                     "{x}相对于{y}的方位是什么？", "要从{y}走到{x}，该往哪边？"),
        "compare": ("{x}比{y}大、小还是一样大？", "和{y}比，{x}是大、是小还是一样大？", "{x}与{y}相比，大小如何？",
                    "比较大小：{x}比{y}怎么样？", "论个头，{x}相对于{y}属于哪种：大、小、一样大？",
                    "请从大、小、一样大里选一个，说出{x}与{y}相比的结果。"),
    },
    "en": {
        "what": ("What is at the {cell}?", "What do you see at the {cell}?", "Which thing is at the {cell}?",
                 "Look at the {cell}. What is it?", "Name the thing at the {cell}.",
                 "Say what the {cell} of the picture shows."),
        "where": ("Where is the {x}?", "Where in the picture is the {x}?", "In which part of the picture is the {x}?",
                  "Where do you see the {x}?", "Give the position of the {x}.", "Where can the {x} be found?"),
        "count": ("How many {x_s} are there?", "How many {x_s} do you see?", "How many {x_s} are in the picture?",
                  "Count the {x_s}. How many are there?", "What is the number of {x_s} in the picture?",
                  "Find all the {x_s} and give their number."),
        "exists": ("Is there {a_x}?", "Is there {a_x} in the picture?", "Do you see {a_x}?",
                   "Does the picture show {a_x}?",
                   "Can {a_x} be found in the picture?", "Does {a_x} appear here?"),
        "relation": ("Where is the {x} relative to the {y}?", "Is the {x} left of, right of, above or below the {y}?",
                     "Seen from the {y}, where is the {x}?", "Relative to the {y}, where is the {x}?",
                     "In which direction from the {y} is the {x}?", "How is the {x} placed with respect to the {y}?"),
        "compare": ("Is the {x} larger than, smaller than or the same size as the {y}?",
                    "How big is the {x} compared with the {y}?",
                    "Compare the {x} with the {y}: larger, smaller or the same?",
                    "Next to the {y}, is the {x} larger, smaller or the same?",
                    "What is the size of the {x} relative to the {y}?",
                    "Which word gives the size of the {x} compared with the {y}: larger, smaller or same?"),
    },
}


def vocabulary(language: str) -> tuple[str, ...]:
    """Every token of questions and answers, sorted: characters in Chinese; lower-case words and marks in English."""
    wordings = [re.sub(r"\{\w+\}", " ", text) for texts in QUESTIONS[language].values() for text in texts]
    words = [word for thing in THINGS for word in ((thing.zh, thing.measure) if language == "zh" else
                                                   (thing.a, thing.plural))]
    fixed = [*CELLS[language], *RELATIONS[language], *COMPARED[language], *YES_NO[language], "0 1 2 3 4"]
    text = " ".join([*wordings, *words, *fixed]).lower()
    return tuple(sorted(set(re.findall(r"\S" if language == "zh" else r"\w+|[^\w\s]", text))))
