"""Names that cases have in common."""


def number_of_tasks(tasks: int) -> str:
    """Name a case by its tasks."""
    return "1 task" if tasks == 1 else f"{tasks:,} tasks"
