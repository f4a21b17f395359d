"""The readiness audit: is this data ready, for which tasks, and what should be done first?

`measure`, `drift` and `tasks` let the columnar engine turn prepared data into small tables,
`checks` and `task_checks` judge them against `thresholds`, `power` says what a holdout could
detect, `verdict` reads off the answer, and `report` writes it as HTML, Markdown and JSON.
Start reading at `examine.examine`.
"""
