"""What a sweep found, for people: tables and figures."""
