"""The dialogues that Ember is trained on, made up by a seeded generator from its own templates and word lists."""
