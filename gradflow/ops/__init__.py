"""What each family of ops means: its definitions, its gradient rules and its sample cases."""
