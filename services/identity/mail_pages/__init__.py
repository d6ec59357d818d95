"""The small pages that mailed links lead to: a form that needs no script, and what came of it."""
