"""The texts that a guard may answer, as an automaton over bytes and over tokens."""
