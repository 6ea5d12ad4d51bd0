-- The newest task that was deleted: ids go on above it, also where the clock goes back.
ALTER TABLE store ADD COLUMN last_task INTEGER NOT NULL DEFAULT 0;
