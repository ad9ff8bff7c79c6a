"""Runs that have ended, and sessions, as NDJSON: `export_archive` writes it, `import_archive` reads it back."""
