"""The models of one key at work: who serves, who learns beside it, what each answer was worth."""
