-- `task_list` finds attempts under way, too, kind by kind.
DROP INDEX task_running;
