"""Fixtures of the baseline tests."""

import pandas as pd
import pytest
from random_log import make_data, random_events, task

from seqjourney.sequences.task_data import TaskData


@pytest.fixture(scope="session")
def events() -> pd.DataFrame:
    return random_events()


@pytest.fixture(scope="session")
def data(events: pd.DataFrame) -> TaskData:
    return make_data(events, task())
