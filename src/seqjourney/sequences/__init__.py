"""Event log in, batches of tokens out.

`store` writes the events as flat memory-mapped numbers, `tokenizer` says what a model may know of
them, `snapshots` cuts labelled questions at cutoffs, `cutting` ties these to a task, and
`batching` and `datamodule` feed them to a network. Start reading at `task_data.TaskData`;
`next_cases` asks the questions of `next` tasks.
"""
