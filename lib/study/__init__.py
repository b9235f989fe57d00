"""The study: profiles and timeline, run folders, datasets, figures, widgets and the papermill driver."""

from lib.study.config import PROFILES, STAGES, TABLE_1, TIMELINE, StudyError
from lib.study.runs import Study, find_study, open_study

__all__ = ["PROFILES", "STAGES", "TABLE_1", "TIMELINE", "Study", "StudyError", "find_study", "open_study"]
