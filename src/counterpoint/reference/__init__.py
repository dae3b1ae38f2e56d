"""The reference of every config key: JSON Schema for editors, one page of Markdown, and one key in the terminal."""
