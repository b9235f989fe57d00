"""Data: pictures and files, the face table, readers of public data sets, the paper's filters, the face world."""
