"""The command line: one module a verb. Heavy imports happen inside the commands, so that help is quick."""
