"""What is remembered: one SQL database per storage, through SQLAlchemy."""
