"""`marginalia verify`: whether a run is complete and consistent."""
