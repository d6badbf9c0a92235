"""Sphinx extension: Chinese full-text search by single characters and pairs.

The index and the query are cut in the same way, without a dictionary, so any Chinese phrase of the
book is found, whole or in part, and so is a single character; also a phrase that runs across a link.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import snowballstemmer
import sphinx.search
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.search import IndexBuilder, SearchLanguage, WordStore
from sphinx.search.zh import english_stopwords, js_porter_stemmer

RUN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]+|[A-Za-z0-9_]+")

SPLIT_QUERY = r"""
function splitQuery(query) {
  const words = [];
  for (const run of query.match(/[\u3400-\u4dbf\u4e00-\u9fff]+|[A-Za-z0-9_]+/g) || []) {
    if (/^[A-Za-z0-9_]/.test(run) || run.length === 1) { words.push(run); continue; }
    for (let i = 0; i + 2 <= run.length; i++) words.push(run.slice(i, i + 2));
  }
  return words;
}
"""


def cut(text: str) -> Iterator[str]:
    """Yield the index terms of `text`: ASCII words, Chinese characters and pairs of neighbours."""
    for run in RUN.findall(text):
        if run[0].isascii():
            yield run
        else:
            yield from run
            yield from (run[i : i + 2] for i in range(len(run) - 1))


class ChinesePairs(SearchLanguage):
    """Search language `zh` for Sphinx; ASCII words are stemmed as English."""

    lang = "zh"
    language_name = "Chinese"
    js_stemmer_code = js_porter_stemmer
    js_splitter_code = SPLIT_QUERY
    stopwords = english_stopwords

    def init(self, options: dict[str, str]) -> None:
        self._english = snowballstemmer.stemmer("english")

    def split(self, input: str) -> list[str]:
        return list(cut(input))

    def word_filter(self, word: str) -> bool:
        return not word.isascii() or (len(word) > 1 and word not in self.stopwords)

    def stem(self, word: str) -> str:
        if not word.isascii():
            return word
        word = word.lower()
        stem = self._english.stemWord(word)
        return word if len(word) >= 3 > len(stem) else stem


class WholeParagraphs(IndexBuilder):
    """Sphinx's index, which cuts each piece of a paragraph alone, with the pairs that lie across links and emphasis too."""

    def _word_collector(self, doctree: nodes.document) -> WordStore:
        found = super()._word_collector(doctree)
        for paragraph in doctree.findall(nodes.paragraph):
            found.words += self.lang.split(paragraph.astext())
        return found


def setup(app: Sphinx) -> dict[str, object]:
    app.add_search_language(ChinesePairs)
    sphinx.search.IndexBuilder = WholeParagraphs  # no option offers it; the HTML builder looks it up when it needs it
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
