"""The conformance suite: a driver proves with a few lines that it keeps what dbcore promises.

```python
from dbcore.testing.conformance import Subject, conformance_tests
from my_driver import driver

test_conformance = conformance_tests(Subject(driver=driver, source="my://localhost/scratch"))
```
Without pytest, `run(subject)` gives a report; `dbcore conformance` prints one.
"""

from dbcore.testing.conformance.judging import Outcome, Verdict, examine, judge
from dbcore.testing.conformance.promise import Promise, promise
from dbcore.testing.conformance.report import Report, markdown, run
from dbcore.testing.conformance.subject import Items, Subject
from dbcore.testing.conformance.suite import PROMISES
from dbcore.testing.conformance.under_pytest import conformance_tests

__all__ = [
    "PROMISES",
    "Items",
    "Outcome",
    "Promise",
    "Report",
    "Subject",
    "Verdict",
    "conformance_tests",
    "examine",
    "judge",
    "markdown",
    "promise",
    "run",
]
