"""The processes of ``runtime serve``: the front-end's side and the supervisor's side."""
