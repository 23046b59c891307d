"""The text of the question in a row of an lm-eval task, without shots and without the words around it.

In: a task object of lm_eval_run.loaded, a row. Out: text that could stand in training data.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# labels that templates put around a question, which no other text of it has
_BEFORE = re.compile(r"^\s*(?:question|problem|q)\s*:\s*", re.IGNORECASE)
_AFTER = re.compile(r"\s*(?:answer|solution|a)\s*:\s*$", re.IGNORECASE)


def question_of(task: Any, row: Mapping[str, Any]) -> str:
    """What the task declares to look for in training data, else its prompt, with the choices where they are in it.

    Where that is no text (winogrande's is the number of a choice), the row's longest one.
    """
    declared = task.config.doc_to_decontamination_query if task.should_decontaminate() else None
    text = _filled(declared, row) if declared else task.doc_to_text(row)
    if not isinstance(text, str):
        text = max((value for value in row.values() if isinstance(value, str)), key=len, default="")
    return _AFTER.sub("", _BEFORE.sub("", text))


def _filled(declared: Any, row: Mapping[str, Any]) -> Any:
    """Of a column's name, a function or a template. lm-eval's own method reads a filled template as Python (0.4.13)."""
    from lm_eval.utils import apply_template

    if callable(declared):
        return declared(row)
    return row[declared] if declared in row else apply_template(declared, dict(row))
