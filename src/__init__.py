"""Helper package of the book 《多模态大模型：技术原理与实战——提示学习与指令微调》.

The name `src` is generic: `__book__` tells this package from any other of that name.
"""

__book__ = "multimodal-book"
__version__ = "0.1.0"
