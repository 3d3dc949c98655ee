"""Who may ask what, and how often: keys with roles, scopes and rates.  Policy; it knows neither front."""


class AccessError(ValueError):
    """The keys cannot be used; the text is one line with every problem."""
