"""What emitted models are made of besides torch: functions and modules, and what cuts them down to one model."""
