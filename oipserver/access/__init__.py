"""Who may ask what, and how often: keys with roles, scopes and rates.  Policy; it knows neither front."""
