"""The API and the internal addresses, through Django's test client."""
