"""Status lists: one bit for each session's access tokens, for validators that follow no stream."""
