"""The words of the videos: verbs, moods, and the wordings of captions and questions, the last two held out."""

from __future__ import annotations

VERBS = {
    "zh": (("慢慢向左移动", "快速向左移动"), ("慢慢向右移动", "快速向右移动"),
           ("慢慢向上移动", "快速向上移动"), ("慢慢向下移动", "快速向下移动"),
           ("在左半边出现", "在右半边出现"), ("在左半边消失", "在右半边消失"), ("停在左半边", "停在右半边")),
    "en": (("moves slowly to the left", "moves quickly to the left"),
           ("moves slowly to the right", "moves quickly to the right"),
           ("moves slowly up", "moves quickly up"), ("moves slowly down", "moves quickly down"),
           ("appears on the left", "appears on the right"), ("disappears on the left", "disappears on the right"),
           ("stays on the left", "stays on the right")),
}
"""For each of EVENTS and both manners."""

DIRECTIONS = {"zh": ("左", "右", "上", "下"), "en": ("left", "right", "up", "down")}
CHANGES = {"zh": ("出现", "消失"), "en": ("appear", "disappear")}
MOOD_NAMES = {"zh": ("开心", "难过", "生气", "平静"), "en": ("happy", "sad", "angry", "calm")}
A_MOOD = {"zh": MOOD_NAMES["zh"], "en": ("a happy", "a sad", "an angry", "a calm")}

CAPTIONS = {
    "zh": (("一{n_x}{x}{verb}", "，", "，", "{parts}，角落里有一张{a_mood}的脸。"),
           ("{x}{verb}", "，", "，", "视频里{parts}，还有一张{a_mood}的脸。"),
           ("一{n_x}{x}{verb}", "，", "，", "角落里是一张{a_mood}的脸，{parts}。"),
           ("有一{n_x}{x}{verb}", "，", "，", "{parts}，角落里那张脸是{mood}的。"),
           ("{x}{verb}", "，", "，", "可以看到{parts}，角落里的表情显得{mood}。"),
           ("一{n_x}{x}{verb}", "，", "，", "除了一张{a_mood}的脸，还能看到{parts}。")),
    "en": (("{a_x} {verb}", ", ", " and ", "{parts}; there is {a_mood} face in the corner."),
           ("the {x} {verb}", ", ", " and ", "in the video {parts}, with {a_mood} face in the corner."),
           ("{a_x} {verb}", ", ", " and ", "{a_mood} face is in the corner; {parts}."),
           ("there is {a_x} that {verb}", ", ", " and ", "{parts}. The face looks {mood}."),
           ("{a_x} {verb}", ", ", " and ", "watch how {parts}; a face wears {a_mood} look."),
           ("the {x} {verb}", ", ", " and ", "besides {a_mood} face, we see that {parts}.")),
}
"""(one thing, between things, before the last thing, the whole)"""

QUESTIONS = {
    "zh": {
        "direction": ("{x}向哪边移动？", "{x}往哪个方向去？", "{x}移向哪一边？", "视频里的{x}朝哪边动？",
                      "请说出{x}移动的方向。", "左、右、上、下里，{x}的去向是哪一个？"),
        "appears": ("什么出现了？", "新出现的是什么？", "后来多了什么？", "视频里出现了什么？",
                    "请说出新出现的东西。", "有什么冒了出来？"),
        "vanishes": ("什么消失了？", "消失的是什么？", "后来少了什么？", "视频里什么不见了？",
                     "请说出消失的东西。", "哪样东西不在了？"),
        "count": ("除了脸，最后有几样东西？", "结束时有几样东西，脸不算？", "不算脸，最后还有几样东西？",
                  "最后一帧里除了脸有几样东西？", "视频结束时，脸以外的东西有几样？",
                  "视频放完，画面上剩几样东西（脸除外）？"),
        "order": ("{x}{change_x}在{y}{change_y}之前吗？", "{x}{change_x}比{y}{change_y}早吗？",
                  "是{x}先{change_x}，{y}后{change_y}吗？", "先有{x}{change_x}，再有{y}{change_y}，对吗？",
                  "{x}{change_x}之后，{y}才{change_y}吗？", "{x}{change_x}时，{y}还没有{change_y}，是吗？"),
        "mood": ("视频的情绪是什么？", "这段视频是什么心情？", "视频给人什么感觉？", "那张脸是什么心情？",
                 "开心、难过、生气、平静，视频属于哪一种？", "请用一个词概括视频表达的心情。"),
    },
    "en": {
        "direction": ("Which way does the {x} move?", "In which direction does the {x} go?",
                      "Does the {x} move left, right, up or down?",
                      "Which way does the {x} go in the video?", "Name the direction in which the {x} moves.",
                      "Where is the {x} heading?"),
        "appears": ("What appears?", "Which thing appears?", "What is new at the end?", "What comes into view?",
                    "Name the thing that appears.", "What was not there at the start?"),
        "vanishes": ("What disappears?", "Which thing disappears?", "What is gone at the end?",
                     "What goes out of view?",
                     "Name the thing that disappears.", "Which thing do we lose sight of?"),
        "count": ("Apart from the face, how many things are there at the end?",
                  "How many things are left at the end, not counting the face?",
                  "Not counting the face, how many things does the last frame show?",
                  "How many things besides the face are there at the end?",
                  "At the end, what is the number of things if the face is left out?",
                  "Leave the face aside and count what remains when the video stops."),
        "order": ("Does the {x} {change_x} before the {y} {change_y}s?",
                  "Does the {x} {change_x} earlier than the {y} {change_y}s?",
                  "Is it true that the {x} {change_x}s first and then the {y} {change_y}s?",
                  "First the {x} {change_x}s, then the {y} {change_y}s: is that right?",
                  "Has the {x} already {change_x}ed by the time the {y} {change_y}s?",
                  "Does the {y} {change_y} only after the {x} {change_x}s?"),
        "mood": ("What is the mood of the video?", "What mood does the video have?", "How does the video feel?",
                 "How does the face feel?", "Is the video happy, sad, angry or calm?",
                 "Give one word for the feeling in this video."),
    },
}
