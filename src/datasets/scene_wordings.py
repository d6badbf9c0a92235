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

MORE_QUESTIONS = {
    "what": ("Tell me what is at the {cell}.", "What thing stands at the {cell}?", "What can you make out at the {cell}?",
             "The {cell}: what is there?", "In the {cell} of the picture, what is drawn?",
             "What has been drawn at the {cell}?", "Identify the object at the {cell}.",
             "Please tell me which object is at the {cell}.", "What object do you see in the {cell} cell?",
             "Could you describe what is in the {cell}?", "What sits at the {cell}?",
             "I am looking at the {cell}. What am I looking at?"),
    "where": ("Tell me where the {x} is.", "Where does the {x} stand?", "In which cell is the {x}?",
              "Which part of the picture holds the {x}?", "What is the location of the {x}?", "Locate the {x}.",
              "I am looking for the {x}. Where is it?", "Point out where the {x} is.", "Whereabouts is the {x}?",
              "Please tell me the place of the {x}.", "The {x}: which cell is it in?",
              "Which spot does the {x} occupy?", "Where on the grid do you see the {x}?",
              "Can you show me where the {x} is?"),
    "count": ("Tell me how many {x_s} there are.", "Count the {x_s}.", "How many {x_s} does the picture show?",
              "How many {x_s} can you count?", "What is the count of {x_s}?",
              "Please count all {x_s} in the picture.", "The {x_s}: how many?",
              "I want to know how many {x_s} you see.", "What is the total of {x_s} here?",
              "In the picture, how many {x_s} are drawn?", "Add up the {x_s}. What do you get?",
              "How many of the things are {x_s}?", "Give me the total of all the {x_s}."),
    "exists": ("Tell me if there is {a_x}.", "Is {a_x} in the picture?", "Is there {a_x} anywhere?",
               "Can you see {a_x}?", "Does the picture contain {a_x}?", "Are you able to see {a_x} here?",
               "Is {a_x} among the things in the picture?", "Has {a_x} been drawn?",
               "Would you see {a_x} if you looked at the picture?", "Check whether there is {a_x}.",
               "Look for {a_x}. Is it there?", "Do we have {a_x} in this picture?",
               "Is {a_x} one of the things you see?"),
    "relation": ("On which side of the {y} is the {x}?", "Which side of the {y} is the {x} on?",
                 "Where is the {x} as seen from the {y}?", "Tell me where the {x} is compared with the {y}.",
                 "Starting at the {y}, which way is it to the {x}?",
                 "Which way do you go from the {y} to reach the {x}?",
                 "Look from the {y} to the {x}. Which way do you look?",
                 "Is the {x} above, below, left or right of the {y}?",
                 "Left, right, above or below: where is the {x} from the {y}?",
                 "How does the {x} stand to the {y}: left, right, above or below?",
                 "Taking the {y} as the center, on which side is the {x}?",
                 "Compare the places of the {x} and the {y}. On which side is the {x}?",
                 "Relative to the {y}, which side is the {x} on?",
                 "Tell me the side of the {y} on which the {x} is.",
                 "From where the {y} is, which way is the {x}?"),
}
"""Further English questions for training only; the words that carry the held-out ones of `QUESTIONS` (direction, position,
placed, number, found, …) do not occur in them."""

OTHER_QUESTIONS = {
    "what": ("What is at the {cell} of the picture?", "Name the thing drawn in the {cell} cell.",
             "Could you tell me which object sits at the {cell}?", "Look at the {cell} of the grid. What do you see there?",
             "Please identify the item shown at the {cell}.", "In the {cell} square, what has been drawn?",
             "I'd like to know what thing occupies the {cell} position.", "The {cell} cell contains something. What is it?"),
    "where": ("Where is the {x} in this picture?", "Which cell of the grid holds the {x}?",
              "Please tell me the position of the {x} in the grid.", "Find the {x} and name the cell it is in.",
              "In what part of the image can the {x} be found?", "Could you point out which grid square the {x} occupies?",
              "I'm looking for the {x}. Which cell should I check?", "Give the location of the {x} within the 3x3 grid."),
    "count": ("Count the {x_s} shown here.", "What is the total number of {x_s} in this image?",
              "Could you please count all the {x_s} you can see?", "Tell me how many {x_s} were drawn in the grid.",
              "Looking at the whole grid, how many {x_s} do you find?", "Please give me the number of {x_s} in this drawing.",
              "I need a tally of the {x_s}. How many are there?"),
    "exists": ("Can you see {a_x} anywhere in this image?", "Does the grid contain {a_x}?",
               "Tell me whether {a_x} appears in the picture, yes or no.", "Please check if the drawing includes {a_x}.",
               "Has {a_x} been drawn in any of the cells?", "Would I find {a_x} somewhere in this grid?",
               "Look over the whole picture. Is {a_x} present?"),
    "relation": ("Starting at the {y}, which way would I go to reach the {x}?",
                 "Say where the {x} is relative to the {y}: left, right, above or below.",
                 "Please tell me on which side of the {y} the {x} lies.",
                 "Compared with the {y}, is the {x} left, right, above or below?",
                 "Could you describe the position of the {x} in relation to the {y}?",
                 "Seen from the {y}, in what direction does the {x} lie?"),
}
"""English questions for examination only, written without sight of those above; four that happened to be among them are
left out."""


def vocabulary(language: str) -> tuple[str, ...]:
    """Every token of questions and answers, sorted: characters in Chinese; lower-case words and marks in English."""
    wordings = [re.sub(r"\{\w+\}", " ", text) for texts in QUESTIONS[language].values() for text in texts]
    words = [word for thing in THINGS for word in ((thing.zh, thing.measure) if language == "zh" else
                                                   (thing.a, thing.plural))]
    fixed = [*CELLS[language], *RELATIONS[language], *COMPARED[language], *YES_NO[language], "0 1 2 3 4"]
    text = " ".join([*wordings, *words, *fixed]).lower()
    return tuple(sorted(set(re.findall(r"\S" if language == "zh" else r"\w+|[^\w\s]", text))))
