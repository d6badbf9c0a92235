"""Sphinx extension: repairs of the theme and of other extensions that no option offers.

- every string of the page furniture is Chinese (`ChineseTemplates`, `translate_script`);
- every node renders in `singlehtml`, which the PDF is made from (`fill_single_page_handlers`).
"""

from __future__ import annotations

import re
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.jinja2glue import BuiltinTemplateLoader

ATTRIBUTES = {
    "Color mode": "颜色模式",
    "Colab logo": "Colab 标志",
    "Launch interactive content": "运行本页代码",
    "Launch on Colab": "在 Colab 中打开",
    "Link to this equation": "此公式的链接",
    "Link to this heading": "此标题的链接",
    "Link to this image": "此图的链接",
    "Link to this table": "此表的链接",
    "Link to this code": "此代码的链接",
    "Link to this term": "此术语的链接",
    "Link to this definition": "此定义的链接",
    "Link to this directive": "此处的链接",
    "Link to this toctree": "此目录的链接",
    "Link to this math": "此公式的链接",
    "Main": "全书目录",
    "Page": "本页目录",
    "Breadcrumb": "当前位置",
    "System Settings": "跟随系统",
    "Toggle hidden content": "展开或收起",
    "Toggle primary sidebar": "全书目录",
    "Toggle secondary sidebar": "本页目录",
    "列印成 PDF": "打印成 PDF",
}
ATTRIBUTE = re.compile(
    r'\b(title|aria-label|data-bs-title|placeholder|alt)="({})"'.format("|".join(map(re.escape, ATTRIBUTES)))
)
TEXTS = (
    (re.compile(r"© Copyright (\d{4})\."), r"© \1 版权所有"),
    (re.compile(r'(<div class="proof admonition"[^>]*>\s*<p>)Proof\. '), r"\1<strong>证明</strong>　"),
)


def translate(page: str) -> str:
    """Return the HTML `page` with the English strings that theme and extensions hard-code in Chinese."""
    page = ATTRIBUTE.sub(lambda m: f'{m[1]}="{ATTRIBUTES[m[2]]}"', page)
    for pattern, text in TEXTS:
        page = pattern.sub(text, page)
    return page


class ChineseTemplates(BuiltinTemplateLoader):
    """Sphinx's template loader (`template_bridge`), its pages translated after rendering."""

    def render(self, template: str, context: dict) -> str:
        return translate(super().render(template, context))


def translate_script(app: Sphinx, exception: Exception | None) -> None:
    """Translate the tips that sphinx-togglebutton's script, copied to the built book, puts on its buttons."""
    script = Path(app.outdir, "_static", "togglebutton.js")
    if exception is None and script.exists():
        script.write_text(translate(script.read_text("utf-8")), "utf-8")


def fill_single_page_handlers(app: Sphinx) -> None:
    """Give every node an HTML handler in `singlehtml` too.

    sphinx-exercise registers handlers for `singlehtml`, which switches off Sphinx's fallback to the
    `html` ones for the nodes of all other extensions.
    """
    handlers = app.registry.translation_handlers
    single = handlers.get("singlehtml", {})
    for node, functions in handlers.get("html", {}).items():
        single.setdefault(node, functions)


def setup(app: Sphinx) -> dict[str, object]:
    app.connect("builder-inited", fill_single_page_handlers)
    app.connect("build-finished", translate_script)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
