//! smtpd restrictions.
