"""Users' files of rows: CSV, TSV, JSON, JSONL and Parquet, also compressed. schemas/source_rows.py reads them all."""
